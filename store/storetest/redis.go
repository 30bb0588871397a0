package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server process on loopback, started for one test and
// ended with it. Nothing is written to disk.
type RedisServer struct {
	Addr   string        // host:port
	URL    string        // redis://host:port
	Client *redis.Client // the test's own view of it

	process *exec.Cmd
	bus     string // a cluster's nodes talk to each other on this port
}

// StartRedis starts a redis-server on a free port, with args after the usual ones, and
// waits until it accepts connections. Without a redis-server on PATH the test fails.
func StartRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	var port int
	process := start(t, "Ready to accept connections", func() []string {
		port = FreePort(t)
		return append([]string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", t.TempDir(),
			"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction",
			"--rdbcompression", "no", // so that Dump shows values as they are
		}, args...)
	})
	return newRedisServer(t, process, port)
}

// start starts redis-server and waits until it has said ready. Another process may take
// a port between our looking for a free one and redis-server's binding it, hence the
// attempts, each with arguments of its own.
func start(t testing.TB, ready string, arguments func() []string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not on PATH: run the tests with `make test`, or `apt-get install redis-server`")
	}
	for range 5 {
		process := exec.Command(path, arguments()...)
		err := startAndWait(process, ready)
		if err == nil {
			return process
		}
		t.Log(err)
	}
	t.Fatal("redis-server did not start")
	return nil
}

func startAndWait(process *exec.Cmd, ready string) error {
	stdout, err := process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if strings.Contains(lines.Text(), ready) {
			// A full pipe would stop it. The copying ends when it does.
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return nil
		}
	}
	return errors.Join(fmt.Errorf("redis-server ended: %s", said.String()), process.Wait())
}

func newRedisServer(t testing.TB, process *exec.Cmd, port int) *RedisServer {
	t.Helper()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	server := &RedisServer{
		Addr:    addr,
		URL:     "redis://" + addr,
		Client:  redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1}),
		process: process,
	}
	t.Cleanup(func() {
		server.Client.Close()
		server.Kill()
	})
	return server
}

// Stop suspends the process: connections stay open and nothing answers.
func (s *RedisServer) Stop(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Continue resumes a stopped process.
func (s *RedisServer) Continue(t testing.TB) { s.signal(t, syscall.SIGCONT) }

// Kill ends the process at once and waits until it is gone. A second call does
// nothing.
func (s *RedisServer) Kill() {
	if s.process.ProcessState == nil {
		_ = s.process.Process.Kill() // it may have ended by itself
		_ = s.process.Wait()
	}
}

// Restart ends the process at once and starts another, empty one at the same address. A
// snapshot that the first one made, as DEBUG RELOAD does, would bring old keys back.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	dir := s.process.Args[slices.Index(s.process.Args, "--dir")+1]
	if err := os.RemoveAll(filepath.Join(dir, "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	s.process = start(t, "Ready to accept connections", func() []string { return s.process.Args[1:] })
}

func (s *RedisServer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// Calls returns how often each command was executed since the last CONFIG
// RESETSTAT, leaving out INFO and CONFIG, with which the test itself looks.
func (s *RedisServer) Calls(t testing.TB) map[string]int {
	t.Helper()
	info, err := s.Client.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(info) {
		var n int
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok || name == "info" || strings.HasPrefix(name, "config") {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d,", &n); err != nil {
			t.Fatalf("commandstats line %q: %v", line, err)
		}
		calls[name] = n
	}
	return calls
}

// Dump returns, for every key, its name and its DUMP: all that Redis holds.
func (s *RedisServer) Dump(t testing.TB) map[string]string {
	t.Helper()
	ctx := context.Background()
	dump := map[string]string{}
	scan := s.Client.Scan(ctx, 0, "*", 1000).Iterator()
	for scan.Next(ctx) {
		value, err := s.Client.Dump(ctx, scan.Val()).Result()
		if err != nil {
			t.Fatal(err)
		}
		dump[scan.Val()] = value
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return dump
}

// FreePort returns a port on loopback that was free a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// Eventually waits until condition holds, for what only real time brings about.
func Eventually(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come to hold within 20 s")
		}
	}
}
