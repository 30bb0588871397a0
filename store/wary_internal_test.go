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

// Wherever the network cuts them.
func TestLengthsAreFollowed(t *testing.T) {
	const longest, half = maxReplies / perElement, maxReplies/2 + 1
	good := "+OK\r\n$-1\r\n*-1\r\n$0\r\n\r\n:12345678901234567890\r\n_\r\n$?\r\n\r\n\n" +
		"$25\r\n$999999999999\r\n*999999\r\n\r\n*2\r\n$1\r\n0\r\n*0\r\n" + // a length within a text is none
		"%1\r\n+k\r\n=5\r\ntxt:x\r\n!3\r\nERR\r\n-ERR 99999999999999\r\n"
	for _, c := range []struct {
		name, replies string
		allowed       bool
	}{
		{"all kinds", good, true},
		{"the most elements", good[:5] + fmt.Sprintf("*%d\r\n", longest-1), true},
		{"the most text", fmt.Sprintf("$%d\r\n%s\r\n", half, strings.Repeat("*", half)), true},
		{"one more", fmt.Sprintf("*%d\r\n", longest+1), false},
		{"after all kinds", good + "*4611686018427387904\r\n", false},
		{"less than the address space, more than memory", good + "$2000000000000\r\n", false},
		{"a string", fmt.Sprintf("$%d\r\n", maxReplies+1), false},
		{"strings together", strings.Repeat(fmt.Sprintf("$%d\r\n%s\r\n", half, strings.Repeat("*", half)), 2), false},
		{"several together", fmt.Sprintf("*%d\r\n~%d\r\n", longest/2+1, longest/2+1), false},
		{"one in the other", strings.Repeat("*1\r\n", longest+1), false},
		{"maps", strings.Repeat("%9\r\n", longest/9+1), false},
		{"pushed", strings.Repeat(">9\r\n", longest/9+1), false},
		{"attributes", strings.Repeat("|9\r\n", longest/9+1), false},
		{"an error", "!9223372036854775807\r\n", false},
		{"a verbatim string", "=9223372036854775807\r\n", false},
		{"a line without end", strings.Repeat("x", maxReplies+1), false},
	} {
		pieces := []int{1, 2, 3, 5, 7, 1000, 1 << 20}
		if len(c.replies) > 1<<20 {
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
			fmt.Fprintf(server, "*%d\r\n", maxReplies/perElement-1)
		}
	}()
	reply := make([]byte, 100)
	for range 3 {
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(reply); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
}
