package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
		"Swap": func(ctx context.Context) error {
			return b.Swap(ctx, "mfa:k", []byte("v"), []byte("w"), time.Minute)
		},
		"Promote": func(ctx context.Context) error {
			return b.Promote(ctx, "mfa:{k}:from", "mfa:{k}:to", []byte("v"), nil, []byte("w"))
		},
		"GetAll": func(ctx context.Context) error { _, err := b.GetAll(ctx, "mfa:k"); return err },
		"Update": func(ctx context.Context) error { return b.Update(ctx, "mfa:k", []byte("w")) },
		"Get":    func(ctx context.Context) error { _, err := b.Get(ctx, "mfa:k"); return err },
		"Delete": func(ctx context.Context) error { return b.Delete(ctx, "mfa:k") },
		"Walk":   func(ctx context.Context) error { _, err := store.Entries(ctx, b, ""); return err },
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
		swapErr := b.Swap(ctx, key, append(value, 'u'), value, time.Minute)
		listed, listErr := store.Entries(ctx, b, key)
		deleteErr := b.Delete(ctx, key)
		if err := errors.Join(err, getErr, updateErr, swapErr, listErr, deleteErr); err != nil ||
			existing != nil || string(got) != string(value) || string(listed[key]) != string(value) {
			t.Errorf("%s: put %q, got %q, listed %q, %v", key, existing, got, listed, err)
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
	mustPut(t, b, "mfa:swapped", "old")
	must(t, b.Swap(ctx, "mfa:swapped", []byte("old"), []byte("v"), short))
	for _, key := range []string{"mfa:put", "mfa:swapped"} {
		wantValue(t, b, key, "v")
	}
	for _, key := range []string{"mfa:put", "mfa:swapped"} {
		wantExpiry(t, b, key)
	}
	if got, err := store.Entries(ctx, b, ""); len(got) != 0 || err != nil {
		t.Fatalf("list after the ttl = %v, %v; want nothing", got, err)
	}
}

// sharesNoBytes changes each value that it passed in or got back, and reads it again.
func sharesNoBytes(t *testing.T, b store.Backend) {
	ctx := t.Context()
	for _, write := range []func([]byte) error{
		func(v []byte) error { _, err := b.PutIfAbsent(ctx, "mfa:k", v, time.Minute); return err },
		func(v []byte) error { return b.Swap(ctx, "mfa:k", []byte("value"), v, time.Minute) },
		func(v []byte) error { return b.Update(ctx, "mfa:k", v) },
	} {
		value := []byte("value")
		must(t, write(value))
		value[0] = 'X'
		for reader, read := range map[string]func() ([]byte, error){
			"Get":         func() ([]byte, error) { return b.Get(ctx, "mfa:k") },
			"PutIfAbsent": func() ([]byte, error) { return b.PutIfAbsent(ctx, "mfa:k", nil, time.Minute) },
			"GetAll": func() ([]byte, error) {
				values, err := b.GetAll(ctx, "mfa:k")
				return slices.Concat(values...), err
			},
			"Walk": func() ([]byte, error) { found, err := store.Entries(ctx, b, "mfa:k"); return found["mfa:k"], err },
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

// putIfAbsentOnce makes 50 calls at once, each with another value. One call must write its value,
// and all others must get that value back.
func putIfAbsentOnce(t *testing.T, b store.Backend) {
	existing := make([][]byte, 50)
	failures := make([]error, len(existing))
	atOnce(len(existing), func(i int) {
		existing[i], failures[i] = b.PutIfAbsent(t.Context(), "mfa:k", fmt.Appendf(nil, "value %d", i), time.Minute)
	})
	must(t, errors.Join(failures...))
	winner := mustGet(t, b, "mfa:k")
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

// putIfAbsentDeadline passes a longer ttl with the second call.
func putIfAbsentDeadline(t *testing.T, b store.Backend) {
	_, err := b.PutIfAbsent(t.Context(), "mfa:k", []byte("v"), 300*time.Millisecond)
	must(t, err)
	if got, err := b.PutIfAbsent(t.Context(), "mfa:k", []byte("later"), time.Hour); string(got) != "v" || err != nil {
		t.Fatalf("put before the ttl = %q, %v; want v, nil", got, err)
	}
	wantExpiry(t, b, "mfa:k")
}

func getAll(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:{k}:one", "v")
	mustPut(t, b, "mfa:{k}:empty", "")
	got, err := b.GetAll(t.Context(), "mfa:{k}:one", "mfa:{k}:none", "mfa:{k}:empty", b.IdentityKey("mfa:{k}:one"))
	if diff := cmp.Diff([][]byte{[]byte("v"), nil, {}, nil}, got); diff != "" || err != nil {
		t.Fatalf("GetAll: %v (-want +got):\n%s", err, diff)
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

// walkEnds swaps each entry that it visits and stops at the tenth.
func walkEnds(t *testing.T, b store.Backend) {
	for i := range 50 {
		mustPut(t, b, fmt.Sprintf("mfa:%d:end", i), "v")
		mustPut(t, b, fmt.Sprintf("mfa:%d:other", i), "v")
	}
	enough := errors.New("enough")
	visited := map[string]bool{}
	err := b.Walk(t.Context(), "mfa:", ":end", func(key string, value []byte) error {
		if visited[key] = true; len(visited) == 10 {
			return enough
		}
		return b.Swap(t.Context(), key, value, []byte("w"), time.Minute)
	})
	if !errors.Is(err, enough) || len(visited) != 10 {
		t.Fatalf("Walk = %v after %d entries; want the error of visit after 10", err, len(visited))
	}
	for key := range visited {
		if !strings.HasSuffix(key, ":end") {
			t.Errorf("Walk visited %s", key)
		}
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
	got, err := store.Entries(t.Context(), b, "mfa:a:")
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

func mustGet(t testing.TB, b store.Backend, key string) []byte {
	t.Helper()
	value, err := b.Get(t.Context(), key)
	must(t, err)
	return value
}

func wantValue(t *testing.T, b store.Backend, key, want string) {
	t.Helper()
	if got, err := b.Get(t.Context(), key); string(got) != want || err != nil {
		t.Fatalf("get %s = %q, %v; want %q", key, got, err, want)
	}
}

// wantEntry checks the entry under key; a nil want stands for none.
func wantEntry(t *testing.T, b store.Backend, key string, want []byte) {
	t.Helper()
	if want == nil {
		wantNothing(t, b, key)
		return
	}
	wantValue(t, b, key, string(want))
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
