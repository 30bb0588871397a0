package storetest

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Proxy stands between clients and a Redis server. It forwards each command and its reply,
// one after the other, except for the faults that Do sets.
type Proxy struct {
	Addr string // host:port, for clients
	URL  string // redis://host:port

	server   string
	listener net.Listener

	mu          sync.Mutex
	faults      []Fault
	connections map[net.Conn]bool
	ended       bool
}

// StartProxy starts a proxy for the server at addr. The proxy ends with the test.
func StartProxy(t testing.TB, addr string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &Proxy{
		Addr: listener.Addr().String(), URL: "redis://" + listener.Addr().String(),
		server: addr, listener: listener, connections: map[net.Conn]bool{},
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.disconnect()
		serving.Wait()
	})
	return p
}

// Do replaces the faults. A command gets the first fault that matches it, or else passes.
func (p *Proxy) Do(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults
}

// disconnect closes all connections of clients.
func (p *Proxy) disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for connection := range p.connections {
		connection.Close()
	}
}

func (p *Proxy) action(args []string) Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		matches := f.Command == "" || strings.EqualFold(f.Command, args[0])
		if matches && slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, f.Key) }) {
			return f.Action
		}
	}
	return Pass
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.connections[client] = true
	ended := p.ended
	p.mu.Unlock()
	if ended {
		return // Accept returned just before the listener closed.
	}
	commands, replies := bufio.NewReader(client), bufio.NewReader(server)
	for {
		raw, err := readReply(commands) // A command has the form of a reply.
		if err != nil {
			break
		}
		args := arguments(raw)
		if len(args) == 0 || !p.action(args)(&Exchange{args, raw, client, server, replies}) {
			break
		}
	}
	p.mu.Lock()
	delete(p.connections, client)
	p.mu.Unlock()
}
