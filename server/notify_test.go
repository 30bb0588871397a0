package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"quiva.ai/mfa/server/auth"
)

// newNotifySocket is systemd's end.
func newNotifySocket(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return socket
}

// monotonic is the time that systemd compares with, in microseconds.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

func TestSystemdIsToldTheState(t *testing.T) {
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	publish := func(serial int64) {
		certPEM, keyPEM := newCertificate(t, serial)
		write(t, cert, certPEM)
		write(t, key, keyPEM)
	}
	for name, address := range map[string]string{"path": filepath.Join(folder, "s"), "abstract": "@mfa-test-" + auth.NewAPIKey()} {
		t.Run(name, func(t *testing.T) {
			publish(1)
			socket := newNotifySocket(t, address)
			next := func(want string) []string {
				t.Helper()
				buffer := make([]byte, 1000)
				_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
				n, err := socket.Read(buffer)
				match := regexp.MustCompile("^" + want + "$").FindStringSubmatch(string(buffer[:n]))
				if err != nil || match == nil {
					t.Fatalf("%q, %v; want %s", buffer[:n], err, want)
				}
				return match
			}
			s := startProcess(t, append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_DRAIN=1s", "MFA_TLS_CERT="+cert, "MFA_TLS_KEY="+key), "NOTIFY_SOCKET="+address))
			next("READY=1")
			publish(2)
			before := monotonic(t)
			s.signal(syscall.SIGHUP)
			at, _ := strconv.ParseInt(next(`RELOADING=1\nMONOTONIC_USEC=(\d+)`)[1], 10, 64)
			if after := monotonic(t); at < before || at > after {
				t.Errorf("MONOTONIC_USEC=%d; want from %d to %d", at, before, after)
			}
			next("READY=1")
			if got := s.serial(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}); got != 2 {
				t.Errorf("serial %d when it is ready again; want 2", got)
			}
			s.signal(syscall.SIGTERM)
			// 1 s of MFA_DRAIN, 12 s of MFA_STOP_TIMEOUT, 3 s for traces, and 5 s more.
			next("STOPPING=1\nEXTEND_TIMEOUT_USEC=21100000")
			s.signal(syscall.SIGHUP) // has no effect any more
			if status := s.wait(); status != 0 {
				t.Errorf("exit status %d; want 0", status)
			}
			_ = socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if n, err := socket.Read(make([]byte, 1000)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes, %v after STOPPING=1; want nothing", n, err)
			}
		})
	}
}

// fillQueue writes to a socket that nobody reads until that would block. Each message has
// a writer of its own, whose buffer is not full before the queue is.
func fillQueue(t *testing.T, address string) {
	t.Helper()
	for range 100_000 {
		writer, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Sendto(writer, []byte("x"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: address})
		_ = unix.Close(writer)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the queue has no end")
}

func TestWithoutSystemdTheServiceStartsAndEndsAllTheSame(t *testing.T) {
	folder := t.TempDir()
	full := filepath.Join(folder, "full")
	newNotifySocket(t, full)
	fillQueue(t, full)
	for address, want := range map[string]string{full: "i/o timeout", filepath.Join(folder, "absent"): "no such file or directory"} {
		s := startProcess(t, append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1"), "NOTIFY_SOCKET="+address))
		if status := s.stop(); status != 0 {
			t.Errorf("%s: exit status %d; want 0", want, status)
		}
		lines := s.logLines("systemd could not be notified") // of READY and of STOPPING
		if len(lines) != 2 || lines[0]["level"] != "WARN" || !strings.HasSuffix(fmt.Sprint(lines[0]["error"]), want) {
			t.Errorf("log records %v; want two WARNs, %s", lines, want)
		}
	}
}
