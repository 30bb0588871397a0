package store_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// A length beyond all measure costs its own callers their answer, and nobody else anything.
func TestAReplyBeyondAllMeasureIsAnError(t *testing.T) {
	const text = "the server announces a longer reply than any should be"
	proxy := storetest.StartProxy(t, storetest.StartRedis(t).Addr)
	lengths := []string{"*4611686018427387904", "$9223372036854775000", "$2000000000000", "*100000000000", "%100000000000"}
	for i, length := range append(lengths, lengths...) {
		backend := newRedis(t, fmt.Sprintf("%s?protocol=%d", proxy.URL, 2+i/len(lengths)))
		proxy.Do(
			storetest.Fault{Command: "set", Action: storetest.Instead(length + "\r\n")},
			storetest.Fault{Command: "get", Action: storetest.Instead(length + "\r\n")},
		)
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				if _, err := backend.PutIfAbsent(t.Context(), fmt.Sprint(i), []byte("x"), time.Minute); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), text) {
					t.Errorf("put: %v; want ErrUnavailable and why", err)
				}
				if value, err := backend.Get(t.Context(), fmt.Sprint(i)); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("get: %q, %v; want ErrUnavailable", value, err)
				}
			})
		}
		callers.Wait()
		if err := backend.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("ready: %v; want ErrUnavailable", err)
		}
		proxy.Do()
		if _, err := backend.PutIfAbsent(t.Context(), "after", []byte("x"), time.Minute); err != nil {
			t.Errorf("put afterwards: %v", err)
		}
	}
}

func TestASentinelsReplyBeyondAllMeasureIsAnError(t *testing.T) {
	host, port, err := net.SplitHostPort(storetest.StartRedis(t).Addr)
	if err != nil {
		t.Fatal(err)
	}
	proxy := storetest.StartProxy(t, storetest.StartSentinelOf(t, host, port))
	proxy.Do(storetest.Fault{Command: "sentinel", Action: storetest.Instead("*2000000000000\r\n")})
	backend := newRedis(t, proxy.URL+"?master_name=mfa")
	if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("get: %v; want ErrUnavailable", err)
	}
	proxy.Do()
	if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get afterwards: %v; want ErrNotFound", err)
	}
}

// go-redis looks at the connection itself whether the server has closed it meanwhile.
func TestAConnectionThatTheServerHasClosedIsNotUsed(t *testing.T) {
	server := storetest.StartRedis(t)
	backend := newRedis(t, server.URL)
	for range 10 {
		if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("get: %v; want ErrNotFound", err)
		}
		if err := server.Client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
}
