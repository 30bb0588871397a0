package storetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy stands between clients and a Redis server. It passes every command on and every
// reply back, one after the other, except for what Do said to do otherwise.
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

// A Fault is what happens to some commands.
type Fault struct {
	Command string // lower case; empty is any
	Key     string // a part of one of the arguments; empty is any
	Action  Action
}

// An Action does something with a command. If it returns false, the connection is closed.
type Action func(*Exchange) bool

// Exchange is one command, on its way.
type Exchange struct {
	Args []string

	raw            []byte
	client, server net.Conn
	replies        *bufio.Reader
}

// Execute has the server execute the command and returns its reply, or nil if there was
// none.
func (x *Exchange) Execute() []byte {
	if _, err := x.server.Write(x.raw); err != nil {
		return nil
	}
	reply, err := readReply(x.replies)
	if err != nil {
		return nil
	}
	return reply
}

// Answer sends something to the client.
func (x *Exchange) Answer(reply []byte) bool {
	_, err := x.client.Write(reply)
	return reply != nil && err == nil
}

// Pass is what happens without a fault.
func Pass(x *Exchange) bool { return x.Answer(x.Execute()) }

// DropBefore closes the connection; the server never sees the command.
func DropBefore(*Exchange) bool { return false }

// LoseReply closes the connection after the command has been executed.
func LoseReply(x *Exchange) bool { x.Execute(); return false }

// Hold keeps the connection open until the client closes it; the server never sees the
// command, the client never a reply.
func Hold(x *Exchange) bool { _, _ = io.Copy(io.Discard, x.client); return false }

// Delay keeps the reply back for some time after the command has been executed.
func Delay(d func() time.Duration) Action {
	return func(x *Exchange) bool {
		reply := x.Execute()
		time.Sleep(d())
		return x.Answer(reply)
	}
}

// Slice sends the reply in single bytes.
func Slice(x *Exchange) bool {
	reply := x.Execute()
	for b := range slices.Chunk(reply, 1) {
		if !x.Answer(b) {
			return false
		}
	}
	return reply != nil
}

// Corrupt has the command executed and answers with text instead.
func Corrupt(text string) Action {
	return func(x *Exchange) bool { x.Execute(); return x.Answer([]byte(text)) }
}

// Instead answers with text; the server never sees the command.
func Instead(text string) Action {
	return func(x *Exchange) bool { return x.Answer([]byte(text)) }
}

// Reset has the client's connection end with a TCP reset; the server never sees the
// command.
func Reset(x *Exchange) bool {
	if connection, ok := x.client.(*net.TCPConn); ok {
		_ = connection.SetLinger(0) // closing it is all that is left to do
	}
	return false
}

// StartProxy starts a proxy of the Redis at addr that ends with the test.
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
		p.Disconnect()
		serving.Wait()
	})
	return p
}

// Do replaces the faults; the first that matches a command counts. Without any, every
// command passes.
func (p *Proxy) Do(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults
}

// Disconnect closes all connections, the held ones too.
func (p *Proxy) Disconnect() {
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
		return // it was accepted just before
	}
	commands, replies := bufio.NewReader(client), bufio.NewReader(server)
	for {
		raw, err := readReply(commands) // a command has the form of a reply
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

// arguments reads a command: an array of bulk strings.
func arguments(raw []byte) []string {
	var args []string
	_, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	for len(rest) > 0 {
		header, body, _ := bytes.Cut(rest, []byte("\r\n"))
		n, err := strconv.Atoi(strings.TrimPrefix(string(header), "$"))
		if err != nil || len(body) < n+2 {
			return nil
		}
		args, rest = append(args, string(body[:n])), body[n+2:]
	}
	return args
}

// readReply reads one reply of RESP2 or RESP3, whole and as it is: a line, for blobs
// (bulk strings, verbatim strings, long errors) what it announces, and for aggregates
// as many replies.
func readReply(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	kind, count := line[0], 0
	if strings.IndexByte("$=!*~>%|", kind) >= 0 {
		if count, err = strconv.Atoi(strings.TrimSpace(string(line[1:]))); err != nil {
			return nil, fmt.Errorf("reply %q: %w", line, err)
		}
	}
	switch kind {
	case '$', '=', '!':
		if count < 0 {
			return line, nil
		}
		blob := make([]byte, count+2)
		_, err = io.ReadFull(r, blob)
		return append(line, blob...), err
	case '%', '|':
		count *= 2
	}
	for range count {
		part, err := readReply(r)
		if err != nil {
			return nil, err
		}
		line = append(line, part...)
	}
	return line, nil
}
