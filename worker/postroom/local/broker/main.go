// The embedded broker of `postroom up` and of the tests: one process that speaks the Kafka protocol.
//
// It is franz-go's kfake (BSD-3-Clause) behind flags. It listens on the loopback interface only, keeps
// its topics and offsets in -data-dir (or in memory when that is empty), and ends when its standard
// input closes (clients.go says how), so that no broker outlives the program that started it.
// With a -data-dir topics have to be created by a client; in memory they are created at first use.
//
// Input: flags, then control lines of JSON on standard input (control.go).
// Output: one line of JSON on standard output when it listens, {"bootstrap": "127.0.0.1:…", "pid": …},
// then one line of JSON per control line. Failures are a sentence on standard error and exit code 1.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// How often retention.ms and retention.bytes are applied and compacted topics are compacted.
const upkeepEvery = 10 * time.Second

// Short sessions let tests see a takeover in seconds; a client still chooses its own.
const shortestSession = time.Second

// options are the flags, read once.
type options struct {
	port       int
	dataDir    string
	sync       bool
	partitions int
	configs    settings
}

// settings collects repeated -config key=value flags.
type settings map[string]string

// String is what flag.Value asks for; the flag has no default worth printing.
func (s settings) String() string { return "" }

// Set reads one key=value.
func (s settings) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("want key=value, got %q", text)
	}
	s[key] = value
	return nil
}

func main() {
	if err := run(readFlags()); err != nil {
		fmt.Fprintln(os.Stderr, "postroom-broker:", err)
		os.Exit(1)
	}
}

func readFlags() options {
	o := options{configs: settings{}}
	flag.IntVar(&o.port, "port", 0, "port on 127.0.0.1 (0 = any free one)")
	flag.StringVar(&o.dataDir, "data-dir", "", "keep topics and offsets here (empty = in memory)")
	flag.BoolVar(&o.sync, "sync", false, "fsync every batch before it is acknowledged")
	flag.IntVar(&o.partitions, "partitions", 3, "partitions of topics created on first use (in memory only)")
	flag.Var(o.configs, "config", "broker configuration key=value (repeatable)")
	flag.Parse()
	return o
}

func run(o options) error {
	connected := &clients{}
	cluster, err := kfake.NewCluster(clusterOptions(o, connected)...)
	if err != nil {
		return err
	}
	defer cluster.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	parentGone := make(chan struct{})
	replies := json.NewEncoder(os.Stdout)
	if err := replies.Encode(map[string]any{"bootstrap": cluster.ListenAddrs()[0], "pid": os.Getpid()}); err != nil {
		return errors.New("standard output is closed: the program that started this broker has ended")
	}
	go func() {
		defer close(parentGone)
		(&controls{cluster: cluster}).serve(os.Stdin, replies)
		connected.leave()
	}()
	upkeep := time.NewTicker(upkeepEvery)
	defer upkeep.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-parentGone:
			return nil
		case <-upkeep.C:
			cluster.ApplyRetention()
			cluster.Compact()
		}
	}
}

func clusterOptions(o options, connected *clients) []kfake.Opt {
	opts := []kfake.Opt{
		kfake.ListenFn(connected.listen),
		kfake.DefaultNumPartitions(o.partitions),
		kfake.GroupMinSessionTimeout(shortestSession),
		kfake.BrokerConfigs(o.configs),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelWarn)),
	}
	if o.port == 0 {
		opts = append(opts, kfake.NumBrokers(1))
	} else {
		opts = append(opts, kfake.Ports(o.port))
	}
	// kfake writes a topic that was created on first use to disk only when it closes: a kill would lose
	// the topic and the acknowledged messages in it. A topic created by CreateTopics is written at once.
	if o.dataDir != "" {
		opts = append(opts, kfake.DataDir(o.dataDir))
	} else {
		opts = append(opts, kfake.AllowAutoTopicCreation())
	}
	if o.sync {
		opts = append(opts, kfake.SyncWrites())
	}
	return opts
}
