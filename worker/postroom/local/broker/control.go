package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// command is one control line: a fault that a test wants the broker to show.
type command struct {
	Op         string   `json:"op"`         // fault | delay | clear | shuffle_leaders | move_coordinators
	Keys       []string `json:"keys"`       // API names such as "Produce"; empty = every request (fault only)
	Topic      string   `json:"topic"`      // only requests that name this topic
	Group      string   `json:"group"`      // only requests that name this group
	Partitions []int32  `json:"partitions"` // only these partitions
	Code       int16    `json:"code"`       // the Kafka error code to answer with
	Count      int      `json:"count"`      // how many requests: 0 = one, -1 = until clear
	TopLevel   bool     `json:"top_level"`  // set the response's own error code, not its entities'
	Ms         int      `json:"ms"`         // how long a delayed request waits
}

// reply is the answer to one control line.
type reply struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Hits  int    `json:"hits,omitempty"` // of `clear`: how many requests met a fault
}

// controls applies control lines to a cluster and remembers the faults that stand.
type controls struct {
	cluster *kfake.Cluster
	faults  []*kfake.FaultHandle
}

// serve answers control lines until the input ends.
func (c *controls) serve(input io.Reader, replies *json.Encoder) {
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		hits, err := c.apply(lines.Bytes())
		answer := reply{OK: err == nil, Hits: hits}
		if err != nil {
			answer.Error = err.Error()
		}
		if replies.Encode(answer) != nil {
			return
		}
	}
}

func (c *controls) apply(line []byte) (hits int, err error) {
	var wanted command
	if err := json.Unmarshal(line, &wanted); err != nil {
		return 0, err
	}
	keys, err := requestKeys(wanted.Keys)
	if err != nil {
		return 0, err
	}
	switch wanted.Op {
	case "fault":
		return 0, c.fault(wanted, keys)
	case "delay":
		return 0, c.delay(wanted, keys)
	case "clear":
		return c.clear(), nil
	case "shuffle_leaders":
		c.cluster.ShufflePartitionLeaders()
		return 0, nil
	case "move_coordinators":
		c.cluster.RehashCoordinators()
		return 0, nil
	}
	return 0, fmt.Errorf("unknown op %q", wanted.Op)
}

func (c *controls) fault(wanted command, keys []kmsg.Key) error {
	known, isError := kerr.ErrorForCode(wanted.Code).(*kerr.Error)
	if !isError {
		return fmt.Errorf("code %d is not a Kafka error", wanted.Code)
	}
	c.faults = append(c.faults, c.cluster.Fault(kfake.Fault{
		Keys:       keys,
		Topic:      wanted.Topic,
		Group:      wanted.Group,
		Partitions: wanted.Partitions,
		Err:        known,
		Count:      wanted.Count,
		TopLevel:   wanted.TopLevel,
	}))
	return nil
}

// delay holds back the next Count requests of each key; they are then answered as usual.
func (c *controls) delay(wanted command, keys []kmsg.Key) error {
	if len(keys) == 0 {
		return fmt.Errorf("delay needs keys")
	}
	for _, key := range keys {
		left, pause := max(wanted.Count, 1), time.Duration(wanted.Ms)*time.Millisecond
		c.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			if left--; left <= 0 {
				c.cluster.DropControl()
			}
			c.cluster.SleepControl(func() { time.Sleep(pause) })
			return nil, nil, false
		})
	}
	return nil
}

func (c *controls) clear() (hits int) {
	for _, fault := range c.faults {
		hits += fault.Hits()
		fault.Remove()
	}
	c.faults = nil
	return hits
}

func requestKeys(names []string) ([]kmsg.Key, error) {
	var keys []kmsg.Key
	for _, name := range names {
		key, found := requestKey(name)
		if !found {
			return nil, fmt.Errorf("%q is not a Kafka request", name)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func requestKey(name string) (kmsg.Key, bool) {
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		if strings.EqualFold(kmsg.NameForKey(key), name) {
			return kmsg.Key(key), true
		}
	}
	return 0, false
}
