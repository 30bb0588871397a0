package storetest

import (
	"bufio"
	"io"
	"net"
	"slices"
	"time"
)

// A Fault is an Action for some commands.
type Fault struct {
	Command string // in any case; empty means any
	Key     string // part of one of the arguments; empty means any
	Action  Action
}

// An Action handles one command. If it returns false, the proxy closes the connection.
type Action func(*Exchange) bool

// Exchange is one command on its way through a Proxy.
type Exchange struct {
	Args []string

	raw            []byte
	client, server net.Conn
	replies        *bufio.Reader
}

// Connection names the client's connection.
func (x *Exchange) Connection() string { return x.client.RemoteAddr().String() }

// Execute sends the command to the server and returns the reply, or nil if there is none.
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

// Reply sends bytes to the client.
func (x *Exchange) Reply(reply []byte) bool {
	_, err := x.client.Write(reply)
	return reply != nil && err == nil
}

// Pass executes the command and sends the reply: the action without a fault.
func Pass(x *Exchange) bool { return x.Reply(x.Execute()) }

// DropBefore closes the connection. The server does not get the command.
func DropBefore(*Exchange) bool { return false }

// LoseReply executes the command and closes the connection instead of replying.
func LoseReply(x *Exchange) bool { x.Execute(); return false }

// Hold sends nothing until the client closes the connection. The server does not get the
// command.
func Hold(x *Exchange) bool { _, _ = io.Copy(io.Discard, x.client); return false }

// Delay executes the command and sends the reply after d().
func Delay(d func() time.Duration) Action {
	return func(x *Exchange) bool {
		reply := x.Execute()
		time.Sleep(d())
		return x.Reply(reply)
	}
}

// Slice executes the command and sends the reply byte by byte.
func Slice(x *Exchange) bool {
	reply := x.Execute()
	for b := range slices.Chunk(reply, 1) {
		if !x.Reply(b) {
			return false
		}
	}
	return reply != nil
}

// Corrupt executes the command and replies with text.
func Corrupt(text string) Action {
	return func(x *Exchange) bool { x.Execute(); return x.Reply([]byte(text)) }
}

// Instead replies with text. The server does not get the command.
func Instead(text string) Action {
	return func(x *Exchange) bool { return x.Reply([]byte(text)) }
}

// Reset ends the client's connection with a TCP reset. The server does not get the command.
func Reset(x *Exchange) bool {
	if connection, ok := x.client.(*net.TCPConn); ok {
		_ = connection.SetLinger(0) // closing then sends the reset
	}
	return false
}
