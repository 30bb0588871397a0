package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// read has a server send replies, in pieces of some size, and returns what arrives.
func read(t *testing.T, replies string, piece int) (string, error) {
	t.Helper()
	server, client := net.Pipe()
	go func() {
		defer server.Close()
		for i := 0; i < len(replies); i += piece {
			if _, err := io.WriteString(server, replies[i:min(i+piece, len(replies))]); err != nil {
				return
			}
		}
	}()
	conn := newWary(client)
	defer conn.Close()
	got, err := io.ReadAll(conn)
	return string(got), err
}

// slots is a cluster's list of as many ranges as it can have, each with a primary and four
// replicas.
func slots() string {
	node := "*4\r\n$9\r\n10.20.0.1\r\n:6379\r\n$40\r\n" + strings.Repeat("a", 40) + "\r\n*2\r\n$8\r\nhostname\r\n$4\r\nhost\r\n"
	return "*16384\r\n" + strings.Repeat("*7\r\n:16383\r\n:16383\r\n"+strings.Repeat(node, 5), 16384)
}

// Wherever the network cuts them.
func TestLengthsAreFollowed(t *testing.T) {
	good := "+OK\r\n$-1\r\n*-1\r\n$0\r\n\r\n:12345678901234567890\r\n_\r\n$?\r\n\r\n\n" +
		"$25\r\n$999999999999\r\n*999999\r\n\r\n*2\r\n$1\r\n0\r\n*0\r\n" + // a length within a text is none
		"%1\r\n+k\r\n=5\r\ntxt:x\r\n!3\r\nERR\r\n-ERR 99999999999999\r\n"
	longest := fmt.Sprintf("$%d\r\n%s\r\n", maxString, strings.Repeat("*", maxString))
	for _, c := range []struct {
		name, replies string
		allowed       bool
	}{
		{"all kinds", good, true},
		{"the slots of a cluster", slots(), true},
		{"the most elements", fmt.Sprintf("*%d\r\n", maxLength), true},
		{"one more", fmt.Sprintf("*%d\r\n", maxLength+1), false},
		{"the most text", longest, true},
		{"one byte more", fmt.Sprintf("$%d\r\n", maxString+1), false},
		{"after all kinds", good + "*4611686018427387904\r\n", false},
		{"less than the address space, more than memory", good + "$2000000000000\r\n", false},
		{"after no string", "$-1\r\n$2000000000000\r\n", false},
		{"strings together", strings.Repeat(longest, 4), false},
		{"arrays together", strings.Repeat("*65536\r\n", 64), false},
		{"more within each other than a stack has room for", strings.Repeat("*1\r\n", 300_000), false},
		{"maps", strings.Repeat("%1\r\n", 300_000), false},
		{"pushed", strings.Repeat(">1\r\n", 300_000), false},
		{"sets", strings.Repeat("~1\r\n", 300_000), false},
		{"a map", fmt.Sprintf("%%%d\r\n", maxLength+1), false},
		{"an attribute", "|0\r\n", false},
		{"no attribute", "|-1\r\n", false}, // which is one to go-redis
		{"an error", "!9223372036854775807\r\n", false},
		{"a verbatim string", "=9223372036854775807\r\n", false},
		{"a line without end", strings.Repeat("x", maxReplies+1), false},
	} {
		pieces := []int{1, 2, 3, 5, 7, 1000, 1 << 20}
		if len(c.replies) > 1000 {
			pieces = pieces[5:]
		}
		for _, piece := range pieces {
			got, err := read(t, c.replies, piece)
			if c.allowed && (err != nil || got != c.replies) || !c.allowed && !errors.Is(err, errLongReply) {
				t.Errorf("%s, in pieces of %d: %d of %d bytes, %v; want all of it %t", c.name, piece, len(got), len(c.replies), err, c.allowed)
			}
		}
	}
}

// Each command may have as much.
func TestWithACommandTheMeasureIsFullAgain(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	conn := newWary(client)
	go func() {
		request := make([]byte, 1)
		for {
			if _, err := server.Read(request); err != nil {
				return
			}
			_, _ = io.WriteString(server, strings.Repeat(fmt.Sprintf("*%d\r\n", maxLength), 50))
		}
	}()
	reply := make([]byte, 1000)
	for range 3 { // more than maxReplies together
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(reply); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
}

// go-redis reads on after the first fault, and logs what it finds last.
func TestAfterALongReplyNothingIsRead(t *testing.T) {
	server, client := net.Pipe()
	conn := newWary(client)
	defer conn.Close()
	go func() {
		defer server.Close()
		_, _ = io.WriteString(server, "$2000000000000\r\n+OK\r\n")
	}()
	for range 3 {
		if n, err := conn.Read(make([]byte, 16)); n != 0 || !errors.Is(err, errLongReply) {
			t.Errorf("%d bytes, %v; want errLongReply", n, err)
		}
	}
}
