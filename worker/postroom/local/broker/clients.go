package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// How long a broker whose parent is gone serves those who are still connected: workers settle what is
// under way and commit their offsets then, and a new run on the same data waits for all of them.
const farewell = 15 * time.Second

// clients counts the connections that are open.
type clients struct {
	open atomic.Int64
}

// listen keeps the port that kfake asks for and nothing of its address: loopback only.
func (c *clients) listen(_, address string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
	return countingListener{listener, c}, err
}

// leave returns when no client has been connected for a moment, or when the farewell has been long enough.
// The moment is for clients between two connections: they close one before they open the next.
func (c *clients) leave() {
	const look, moment = 50 * time.Millisecond, 500 * time.Millisecond
	alone := time.Duration(0)
	for waited := time.Duration(0); waited < farewell && alone < moment; waited += look {
		time.Sleep(look)
		if alone += look; c.open.Load() > 0 {
			alone = 0
		}
	}
}

type countingListener struct {
	net.Listener
	clients *clients
}

// Accept counts a connection in.
func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.clients.open.Add(1)
	return &countedConn{Conn: conn, clients: l.clients}, nil
}

type countedConn struct {
	net.Conn
	clients *clients
	once    sync.Once
}

// Close counts the connection out, once.
func (c *countedConn) Close() error {
	c.once.Do(func() { c.clients.open.Add(-1) })
	return c.Conn.Close()
}
