package lifecycle

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// pipeListener is a listener in memory, so that servers run on the fake time of synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error { l.close(); return nil }

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// pipeClient is an HTTP client with one connection.
type pipeClient struct {
	net.Conn
	responses *bufio.Reader
}

func (l *pipeListener) dial() pipeClient {
	client, server := net.Pipe()
	l.conns <- server
	return pipeClient{client, bufio.NewReader(client)}
}

// send sends a request and returns without a response.
func (c pipeClient) send(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Error(err)
	}
}

// wantStatus reads a response and compares its status.
func (c pipeClient) wantStatus(t *testing.T, want int) {
	t.Helper()
	response, err := http.ReadResponse(c.responses, nil)
	if err != nil {
		t.Errorf("read response: %v; want status %d", err, want)
		return
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != want {
		t.Errorf("status %d, %v; want %d", response.StatusCode, err, want)
	}
}

// wantEnd demands that the server has closed the connection.
func (c pipeClient) wantEnd(t *testing.T) {
	t.Helper()
	if _, err := c.responses.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v; want io.EOF", err)
	}
}
