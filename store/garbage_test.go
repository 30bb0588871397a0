package store_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// Replies that Redis never sends. go-redis returns an error for most of them. It panics for
// lengths that no slice can have. A length between the memory and the address space would
// end the process, and has no row here.
var garbage = map[string]string{
	"text":             "garbage\r\n",
	"no line end":      "garbage",
	"cut short":        "$1000\r\nx",
	"another type":     "*1\r\n:1\r\n",
	"no length":        "$x\r\n",
	"endless elements": "*4611686018427387904\r\n",
	"endless string":   "$9223372036854775000\r\n",
}

// Each caller gets ErrUnavailable. With sound replies again, so do the callers.
func TestRedis_IsUnavailableOnGarbage(t *testing.T) {
	server := storetest.SharedRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	for name, reply := range garbage {
		for protocol := 2; protocol <= 3; protocol++ {
			t.Run(name+", RESP"+strconv.Itoa(protocol), func(t *testing.T) {
				backend := newRedis(t, proxy.URL+"?protocol="+strconv.Itoa(protocol))
				proxy.Do(
					storetest.Fault{Command: "set", Action: storetest.Instead(reply)},
					storetest.Fault{Command: "get", Action: storetest.Instead(reply)},
				)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // for replies that never end
				defer cancel()
				var callers sync.WaitGroup
				for range 20 {
					callers.Go(func() {
						if existing, err := backend.PutIfAbsent(ctx, "mfa:k", []byte("x"), time.Minute); !errors.Is(err, store.ErrUnavailable) {
							t.Errorf("PutIfAbsent = %q, %v; want ErrUnavailable", existing, err)
						}
						if value, err := backend.Get(ctx, "mfa:k"); !errors.Is(err, store.ErrUnavailable) {
							t.Errorf("Get = %q, %v; want ErrUnavailable", value, err)
						}
					})
				}
				callers.Wait()
				if err := backend.Ready(ctx); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("Ready = %v; want ErrUnavailable", err)
				}
				proxy.Do()
				if _, err := backend.PutIfAbsent(t.Context(), "mfa:k", []byte("sound"), time.Minute); err != nil {
					t.Errorf("PutIfAbsent afterwards: %v", err)
				}
				if value, err := backend.Get(t.Context(), "mfa:k"); string(value) != "sound" || err != nil {
					t.Errorf("Get afterwards = %q, %v; want sound", value, err)
				}
			})
		}
	}
}

// The handshake, the slots of a cluster and the address of a primary come before the first
// command. A sentinel's reply of another length would end the process: go-redis panics on a
// goroutine without a hook.
func TestRedis_IsUnavailableOnGarbageWhileConnecting(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.SharedRedis(t).Addr)
	for command, url := range map[string]string{
		"hello":    proxy.URL,
		"cluster":  "redis+cluster://" + proxy.Addr,
		"sentinel": proxy.URL + "?master_name=mfa",
	} {
		for name, reply := range garbage {
			if command == "sentinel" && (strings.HasPrefix(name, "endless") || name == "another type") {
				continue
			}
			t.Run(command+", "+name, func(t *testing.T) {
				proxy.Do(storetest.Fault{Command: command, Action: storetest.Instead(reply)})
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if _, err := newRedis(t, url).Get(ctx, "mfa:k"); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("Get = %v; want ErrUnavailable", err)
				}
			})
		}
	}
}

// unwritable has go-redis panic while it writes a command.
type unwritable struct{}

func (unwritable) MarshalBinary() ([]byte, error) { panic("unwritable") }

const unwritablePanic = "panic: unwritable"

func TestRedis_TurnsPanicIntoError(t *testing.T) {
	backend := newRedis(t, storetest.SharedRedis(t).URL)
	wantPanicError(t, backend)
	pipeline := backend.Client().Pipeline()
	first, second := pipeline.Get(t.Context(), "key"), pipeline.Set(t.Context(), "key", unwritable{}, time.Minute)
	_, err := pipeline.Exec(t.Context())
	for name, err := range map[string]error{"pipeline": err, "its GET": first.Err(), "its SET": second.Err()} {
		if err == nil || err.Error() != unwritablePanic {
			t.Errorf("%s: %v; want %s", name, err, unwritablePanic)
		}
	}
	if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get afterwards: %v; want ErrNotFound", err)
	}
}

func wantPanicError(t *testing.T, backend *store.Redis) {
	t.Helper()
	if err := backend.Client().Set(t.Context(), "key", unwritable{}, time.Minute).Err(); err == nil || err.Error() != unwritablePanic {
		t.Errorf("SET: %v; want %s", err, unwritablePanic)
	}
	if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get afterwards: %v; want ErrNotFound", err)
	}
}
