package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// Methods returns a call of each method of b that can fail. On a working backend the calls
// expect the entry mfa:k with the value v, and they change it.
func Methods(b store.Backend) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Ready": b.Ready,
		"PutIfAbsent": func(ctx context.Context) error {
			_, err := b.PutIfAbsent(ctx, "mfa:new", []byte("v"), time.Minute)
			return err
		},
		"Replace": func(ctx context.Context) error {
			_, err := b.Replace(ctx, "mfa:k", []byte("v"), []byte("w"), time.Minute)
			return err
		},
		"Update": func(ctx context.Context) error { return b.Update(ctx, "mfa:k", []byte("w")) },
		"Get":    func(ctx context.Context) error { _, err := b.Get(ctx, "mfa:k"); return err },
		"Delete": func(ctx context.Context) error { return b.Delete(ctx, "mfa:k") },
		"List":   func(ctx context.Context) error { _, err := b.List(ctx, ""); return err },
	}
}

// concurrentUse has 50 goroutines each write, read, change and delete entries of their own.
func concurrentUse(t *testing.T, b store.Backend) {
	ctx := t.Context()
	atOnce(50, func(i int) {
		key, value := fmt.Sprintf("mfa:%d", i), []byte{byte(i)}
		existing, err := b.PutIfAbsent(ctx, key, value, time.Minute)
		got, getErr := b.Get(ctx, key)
		updateErr := b.Update(ctx, key, append(value, 'u'))
		replaced, replaceErr := b.Replace(ctx, key, append(value, 'u'), value, time.Minute)
		listed, listErr := b.List(ctx, key)
		deleteErr := b.Delete(ctx, key)
		if err := errors.Join(err, getErr, updateErr, replaceErr, listErr, deleteErr); err != nil ||
			existing != nil || replaced != nil || string(got) != string(value) || string(listed[key]) != string(value) {
			t.Errorf("%s: put %q, got %q, replaced %q, listed %q, %v", key, existing, got, replaced, listed, err)
		}
	})
	if left := mustList(t, b); len(left) != 0 {
		t.Errorf("%d entries remain; want none", len(left))
	}
}

func doneContext(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "v")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range Methods(b) {
		returned := make(chan error, 1)
		go func() { returned <- call(ctx) }()
		select {
		case err := <-returned:
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s = %v; want ErrUnavailable because of context.Canceled", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s did not return", name)
		}
	}
	wantValue(t, b, "mfa:k", "v")
	wantNothing(t, b, "mfa:new")
}

func ttl(t *testing.T, b store.Backend) {
	ctx := t.Context()
	const short = 200 * time.Millisecond
	_, err := b.PutIfAbsent(ctx, "mfa:put", []byte("v"), short)
	must(t, err)
	mustPut(t, b, "mfa:replaced", "old")
	_, err = b.Replace(ctx, "mfa:replaced", []byte("old"), []byte("v"), short)
	must(t, err)
	for _, key := range []string{"mfa:put", "mfa:replaced"} {
		wantValue(t, b, key, "v")
	}
	for _, key := range []string{"mfa:put", "mfa:replaced"} {
		wantExpiry(t, b, key)
	}
	if got, err := b.List(ctx, ""); len(got) != 0 || err != nil {
		t.Fatalf("list after the ttl = %v, %v; want nothing", got, err)
	}
}

// sharesNoBytes changes each value that it passed in or got back, and reads it again.
func sharesNoBytes(t *testing.T, b store.Backend) {
	ctx := t.Context()
	for _, write := range []func([]byte) error{
		func(v []byte) error { _, err := b.PutIfAbsent(ctx, "mfa:k", v, time.Minute); return err },
		func(v []byte) error { _, err := b.Replace(ctx, "mfa:k", []byte("value"), v, time.Minute); return err },
		func(v []byte) error { return b.Update(ctx, "mfa:k", v) },
	} {
		value := []byte("value")
		must(t, write(value))
		value[0] = 'X'
		for reader, read := range map[string]func() ([]byte, error){
			"Get":         func() ([]byte, error) { return b.Get(ctx, "mfa:k") },
			"PutIfAbsent": func() ([]byte, error) { return b.PutIfAbsent(ctx, "mfa:k", nil, time.Minute) },
			"Replace":     func() ([]byte, error) { return b.Replace(ctx, "mfa:k", []byte("other"), nil, time.Minute) },
			"List":        func() ([]byte, error) { found, err := b.List(ctx, "mfa:k"); return found["mfa:k"], err },
		} {
			for range 2 {
				got, err := read()
				if string(got) != "value" || err != nil {
					t.Fatalf("%s = %q, %v; want value", reader, got, err)
				}
				got[0] = 'X'
			}
		}
	}
}

func putIfAbsent(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "first")
	if got, err := b.PutIfAbsent(t.Context(), "mfa:k", []byte("second"), time.Minute); string(got) != "first" || err != nil {
		t.Fatalf("second put = %q, %v; want first, nil", got, err)
	}
	wantValue(t, b, "mfa:k", "first")
}

func putIfAbsentOnce(t *testing.T, b store.Backend) {
	wantOneWinner(t, b, func(value []byte) ([]byte, error) {
		return b.PutIfAbsent(t.Context(), "mfa:k", value, time.Minute)
	})
}

// putIfAbsentDeadline passes a longer ttl with the second call.
func putIfAbsentDeadline(t *testing.T, b store.Backend) {
	_, err := b.PutIfAbsent(t.Context(), "mfa:k", []byte("v"), 300*time.Millisecond)
	must(t, err)
	if got, err := b.PutIfAbsent(t.Context(), "mfa:k", []byte("later"), time.Hour); string(got) != "v" || err != nil {
		t.Fatalf("put before the ttl = %q, %v; want v, nil", got, err)
	}
	wantExpiry(t, b, "mfa:k")
}

func replace(t *testing.T, b store.Backend) {
	ctx := t.Context()
	mustPut(t, b, "mfa:k", "old")
	if got, err := b.Replace(ctx, "mfa:k", []byte("other"), []byte("x"), time.Minute); string(got) != "old" || err != nil {
		t.Fatalf("replace of another value = %q, %v; want old, nil", got, err)
	}
	wantValue(t, b, "mfa:k", "old")
	if got, err := b.Replace(ctx, "mfa:k", []byte("old"), []byte("new"), time.Minute); got != nil || err != nil {
		t.Fatalf("replace = %q, %v; want nil, nil", got, err)
	}
	wantValue(t, b, "mfa:k", "new")
	if got, err := b.Replace(ctx, "mfa:empty", []byte("old"), []byte("new"), time.Minute); got != nil || err != nil {
		t.Fatalf("replace of nothing = %q, %v; want nil, nil", got, err)
	}
	wantValue(t, b, "mfa:empty", "new")
}

func replaceOnce(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "old")
	wantOneWinner(t, b, func(value []byte) ([]byte, error) {
		return b.Replace(t.Context(), "mfa:k", []byte("old"), value, time.Minute)
	})
}

// wantOneWinner calls write 50 times at once for mfa:k, each time with another value. One
// call must write its value, and all others must get that value back.
func wantOneWinner(t *testing.T, b store.Backend, write func(value []byte) ([]byte, error)) {
	t.Helper()
	existing := make([][]byte, 50)
	failures := make([]error, len(existing))
	atOnce(len(existing), func(i int) { existing[i], failures[i] = write(fmt.Appendf(nil, "value %d", i)) })
	must(t, errors.Join(failures...))
	winner, err := b.Get(t.Context(), "mfa:k")
	must(t, err)
	won := 0
	for i, value := range existing {
		switch {
		case value == nil:
			won++
			wantValue(t, b, "mfa:k", fmt.Sprintf("value %d", i))
		case string(value) != string(winner):
			t.Errorf("call %d got %q back; want %q", i, value, winner)
		}
	}
	if won != 1 {
		t.Errorf("%d calls wrote their value; want 1", won)
	}
}

func getNothing(t *testing.T, b store.Backend) { wantNothing(t, b, "mfa:k") }

func updateDeadline(t *testing.T, b store.Backend) {
	_, err := b.PutIfAbsent(t.Context(), "mfa:k", []byte("old"), 300*time.Millisecond)
	must(t, err)
	must(t, b.Update(t.Context(), "mfa:k", []byte("new")))
	wantValue(t, b, "mfa:k", "new")
	wantExpiry(t, b, "mfa:k")
}

func updateNothing(t *testing.T, b store.Backend) {
	if err := b.Update(t.Context(), "mfa:k", []byte("v")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("update without an entry = %v; want ErrNotFound", err)
	}
	mustPut(t, b, "mfa:k", "v")
	must(t, b.Delete(t.Context(), "mfa:k"))
	if err := b.Update(t.Context(), "mfa:k", []byte("w")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("update of a deleted entry = %v; want ErrNotFound", err)
	}
	wantNothing(t, b, "mfa:k")
}

func remove(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "v")
	must(t, b.Delete(t.Context(), "mfa:k"))
	wantNothing(t, b, "mfa:k")
	if err := b.Delete(t.Context(), "mfa:k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second delete = %v; want ErrNotFound", err)
	}
}

// list writes more entries than one page of a cursor holds.
func list(t *testing.T, b store.Backend) {
	want := map[string][]byte{}
	for i := range 2500 {
		key := fmt.Sprintf("mfa:a:%d", i)
		want[key] = []byte(key)
	}
	atOnce(50, func(n int) {
		for i := n; i < len(want); i += 50 {
			mustPut(t, b, fmt.Sprintf("mfa:a:%d", i), fmt.Sprintf("mfa:a:%d", i))
		}
	})
	mustPut(t, b, "mfa:b:0", "other")
	got, err := b.List(t.Context(), "mfa:a:")
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list (-want +got):\n%s", diff)
	}
}

func readyAndClose(t *testing.T, b store.Backend) {
	must(t, b.Ready(t.Context()))
	must(t, b.Close())
}

// atOnce calls do with 0 to n-1 on n goroutines and waits for all of them.
func atOnce(n int, do func(i int)) {
	start := make(chan struct{})
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	callers.Wait()
}

func mustPut(t *testing.T, b store.Backend, key, value string) {
	t.Helper()
	if existing, err := b.PutIfAbsent(t.Context(), key, []byte(value), time.Minute); existing != nil || err != nil {
		t.Errorf("put %s = %q, %v; want nil, nil", key, existing, err)
	}
}

func wantValue(t *testing.T, b store.Backend, key, want string) {
	t.Helper()
	if got, err := b.Get(t.Context(), key); string(got) != want || err != nil {
		t.Fatalf("get %s = %q, %v; want %q", key, got, err, want)
	}
}

func wantNothing(t *testing.T, b store.Backend, key string) {
	t.Helper()
	if got, err := b.Get(t.Context(), key); got != nil || !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get %s = %q, %v; want ErrNotFound", key, got, err)
	}
}

// wantExpiry waits until the entry under key is gone.
func wantExpiry(t *testing.T, b store.Backend, key string) {
	t.Helper()
	Eventually(t, func() bool {
		_, err := b.Get(t.Context(), key)
		return errors.Is(err, store.ErrNotFound)
	})
}
