package store

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

const (
	// maxString and maxLength bound one string, in bytes, and the elements of one array or
	// the pairs of one map. The longest that the client asks for are a value somebody else
	// has put in our place, and a cluster's list of slots.
	maxString = 16 << 20
	maxLength = 1 << 16

	// maxReplies bounds what a server may announce until the client writes again, in bytes
	// of memory: an element has its place, and an array, which may be within another, its
	// share of the stack. A list of 16384 ranges of slots, of five servers each, is below it.
	maxReplies = 64 << 20
	perElement = 16
	perArray   = 256
)

var errLongReply = errors.New("the server announces a longer reply than any should be")

// wary is a connection to a server that may have gone mad, or be no Redis. A reply begins
// with its length, and go-redis, which believes it, makes room for that much: where there is
// not that much memory, the process ends. So lengths are read here first (RESP2 and RESP3),
// sentinels' too.
//
// One goroutine may read while another writes.
type wary struct {
	net.Conn
	announced atomic.Int64 // of maxReplies
	line      []byte       // that has begun
	text      int          // bytes of a string, and its end, that are still to come
	failed    bool         // where in a reply it is, nobody knows any more
}

// newWary keeps what go-redis looks for in a connection, to see whether it was closed.
func newWary(conn net.Conn) net.Conn {
	w := &wary{Conn: conn}
	if raw, ok := conn.(syscall.Conn); ok {
		return struct {
			*wary
			syscall.Conn
		}{w, raw}
	}
	return w
}

// Write implements net.Conn.
func (w *wary) Write(p []byte) (int, error) {
	w.announced.Store(0)
	return w.Conn.Write(p)
}

// Read implements net.Conn.
func (w *wary) Read(p []byte) (int, error) {
	if w.failed {
		return 0, errLongReply
	}
	n, err := w.Conn.Read(p)
	if w.failed = !w.follow(p[:n]); w.failed {
		return 0, errLongReply
	}
	return n, err
}

// follow goes through what has come, and says whether it is still within bounds.
func (w *wary) follow(p []byte) bool {
	for len(p) > 0 {
		if w.text > 0 {
			skipped := min(w.text, len(p))
			w.text -= skipped
			p = p[skipped:]
			continue
		}
		rest, line, ended := p, p, false
		if end := bytes.IndexByte(p, '\n'); end >= 0 {
			line, rest, ended = p[:end], p[end+1:], true
		}
		w.line = append(w.line, line...)
		if !w.announce(len(line)) || ended && !w.header() {
			return false
		}
		if !ended {
			return true
		}
		w.line, p = w.line[:0], rest
	}
	return true
}

// header takes a whole line for what it says of the text or the elements that follow.
func (w *wary) header() bool {
	line := bytes.TrimSuffix(w.line, []byte("\r"))
	if len(line) == 0 || strings.IndexByte("$=!*~>%|", line[0]) < 0 {
		return true
	}
	if line[0] == '|' {
		return false // an attribute: Redis sends none, and go-redis calls itself for each
	}
	length, err := strconv.Atoi(string(line[1:]))
	if err != nil || length < 0 {
		return true // no length; go-redis says what is wrong, if anything is
	}
	switch line[0] {
	case '$', '=', '!': // string, verbatim string, error
		w.text = length + len("\r\n")
		return length <= maxString && w.announce(length)
	case '*', '~', '>': // array, set, push
		return length <= maxLength && w.announce(perArray+length*perElement)
	case '%': // map
		return length <= maxLength && w.announce(perArray+2*length*perElement)
	}
	return true
}

func (w *wary) announce(n int) bool { return w.announced.Add(int64(n)) <= maxReplies }
