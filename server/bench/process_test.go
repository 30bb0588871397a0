//go:build bench

package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"quiva.ai/mfa/store/storetest"
)

// programs are the paths of the servers.
type programs struct{ mfa, baseline, old string }

// build builds mfa and the baseline in the way of `make build`.
func build(t testing.TB) programs {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Fatal("CPU time and memory are read from Linux's interfaces: run this on Linux")
	}
	dir := t.TempDir()
	command := exec.Command("go", "build", "-trimpath", "-o", dir, "quiva.ai/mfa/server", "quiva.ai/mfa/server/bench/baseline")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return programs{filepath.Join(dir, "server"), filepath.Join(dir, "baseline"), *oldMFA}
}

// process is a running server.
type process struct {
	address string // of the measured endpoint
	admin   string // of /metrics
	pid     int
	stop    func()
}

// start starts a program and waits until it serves. mfa and the baseline have different
// names for the same settings; each gets both.
func start(t testing.TB, program string, environ []string, more ...string) *process {
	t.Helper()
	free := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(storetest.FreePort(t))) }
	p := &process{address: free(), admin: free()}
	command := exec.Command(program, "serve") // os/exec sends the output to /dev/null
	command.Env = slices.Concat(environ, more, []string{
		"MFA_LISTEN=" + p.address, "MFA_ADMIN_LISTEN=" + p.admin,
		"LISTEN=" + p.address, "ADMIN_LISTEN=" + p.admin,
	})
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = command.Process.Pid
	p.stop = sync.OnceFunc(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	t.Cleanup(p.stop)
	storetest.Eventually(t, func() bool {
		_, err := p.get("/readyz")
		if err != nil {
			return false
		}
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return p
}

// get returns the body of the admin listener's response, which has to be a 200.
func (p *process) get(path string) (string, error) {
	response, err := http.Get("http://" + p.admin + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", path, response.Status)
	}
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func (p *process) metrics(t testing.TB) string {
	t.Helper()
	text, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// metric returns the value of a metric that has no labels.
func (p *process) metric(t testing.TB, name string) float64 {
	t.Helper()
	return number(t, p.metrics(t), "\n"+name+" ")
}

// allocated returns the bytes and the objects that the processes have allocated since
// their start.
func allocated(t testing.TB, servers []*process) (size, objects float64) {
	t.Helper()
	for _, p := range servers {
		metrics := p.metrics(t)
		size += number(t, metrics, "\ngo_memstats_alloc_bytes_total ")
		objects += number(t, metrics, "\ngo_memstats_mallocs_total ")
	}
	return size, objects
}

// number returns the number that follows name in text.
func number(t testing.TB, text, name string) float64 {
	t.Helper()
	_, rest, _ := strings.Cut(text, name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		t.Fatalf("no %q in %q", name, text)
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// cpuTime returns the CPU time of processes, with all their threads, in nanoseconds'
// resolution.
func cpuTime(t testing.TB, pids ...int) (total time.Duration) {
	t.Helper()
	for _, pid := range pids {
		clock := int32(^pid<<3 | 2) // as clock_getcpuclockid(3) computes it
		var used unix.Timespec
		if err := unix.ClockGettime(clock, &used); err != nil {
			t.Fatal(err)
		}
		total += time.Duration(used.Nano())
	}
	return total
}

// peakMemory returns the greatest peak of resident memory among the processes, in MiB.
func peakMemory(t testing.TB, servers []*process) (most float64) {
	t.Helper()
	for _, p := range servers {
		most = max(most, p.memory(t, "VmHWM"))
	}
	return most
}

// memory returns a size from proc_pid_status(5), such as VmHWM, in MiB.
func (p *process) memory(t testing.TB, name string) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	return number(t, string(status), "\n"+name+":") / 1024
}

// info returns a number from Redis's INFO.
func info(t testing.TB, server *storetest.RedisServer, name string) float64 {
	t.Helper()
	text, err := server.Client.Info(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return number(t, text, "\r\n"+name+":")
}
