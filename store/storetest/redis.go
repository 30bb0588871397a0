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

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server process on loopback. It keeps nothing on disk.
type RedisServer struct {
	Addr   string        // host:port
	URL    string        // redis://host:port
	Client *redis.Client // a connection of the test's own

	process *exec.Cmd
	bus     string // port of a cluster node for other nodes
}

// StartRedis starts a redis-server on a free port and waits until it accepts connections.
// args follow the usual arguments. The process ends with the test. Tests that neither stop
// nor configure the server use SharedRedis instead.
//
// Without redis-server on PATH the test fails.
func StartRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	server := launch(t, t.TempDir(), args...)
	t.Cleanup(server.close)
	return server
}

// launch starts a redis-server that works in dir.
func launch(t testing.TB, dir string, args ...string) *RedisServer {
	t.Helper()
	var addr string
	process := start(t, "Ready to accept connections", func() []string {
		port := strconv.Itoa(FreePort(t))
		addr = net.JoinHostPort("127.0.0.1", port)
		return append([]string{
			"--bind", "127.0.0.1", "--port", port, "--dir", dir,
			"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction",
			"--rdbcompression", "no", // so that Dump shows values as they are
		}, args...)
	})
	return &RedisServer{
		Addr:    addr,
		URL:     "redis://" + addr,
		Client:  redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1}),
		process: process,
	}
}

// start starts redis-server and waits until its log has the text ready. It makes five
// attempts, each with new arguments, because another process may take a free port first.
func start(t testing.TB, ready string, arguments func() []string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not on PATH: run `.ci/with-tools go test ./...`, or install it: `apt-get install redis-server`")
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
	process.SysProcAttr = endWithTestBinary()
	stdout, err := process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	var log strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		fmt.Fprintln(&log, lines.Text())
		if strings.Contains(lines.Text(), ready) {
			// redis-server would block on a full pipe.
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return nil
		}
	}
	return errors.Join(fmt.Errorf("redis-server ended: %s", log.String()), process.Wait())
}

func (s *RedisServer) close() {
	s.Client.Close()
	s.Kill()
}

// Stop suspends the process: its connections stay open, and it sends nothing.
func (s *RedisServer) Stop(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGSTOP) }

// Continue resumes a suspended process.
func (s *RedisServer) Continue(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func (s *RedisServer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	must(t, s.process.Process.Signal(sig))
}

// Kill ends the process at once and waits for its end. A second call does nothing.
func (s *RedisServer) Kill() {
	if s.process.ProcessState == nil {
		_ = s.process.Process.Kill() // it may have ended already
		_ = s.process.Wait()
	}
}

// Restart kills the process and starts another one at the same address. That is empty, unless the
// server has an append-only file. Restart removes the snapshot that DEBUG RELOAD leaves:
// redis-server would load it.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	dir := s.process.Args[slices.Index(s.process.Args, "--dir")+1]
	must(t, os.RemoveAll(filepath.Join(dir, "dump.rdb")))
	s.process = start(t, "Ready to accept connections", func() []string { return s.process.Args[1:] })
}

// Calls returns the number of executions of each command since the last CONFIG RESETSTAT.
// It leaves out INFO and CONFIG, which the test itself sends.
func (s *RedisServer) Calls(t testing.TB) map[string]int {
	t.Helper()
	info, err := s.Client.Info(context.Background(), "commandstats").Result()
	must(t, err)
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

// Dump returns the name and the DUMP of every Redis entry: all that the server holds.
func (s *RedisServer) Dump(t testing.TB) map[string]string {
	t.Helper()
	ctx := context.Background()
	dump := map[string]string{}
	scan := s.Client.Scan(ctx, 0, "*", 1000).Iterator()
	for scan.Next(ctx) {
		value, err := s.Client.Dump(ctx, scan.Val()).Result()
		must(t, err)
		dump[scan.Val()] = value
	}
	must(t, scan.Err())
	return dump
}

// FreePort returns a TCP port on loopback that was free a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
