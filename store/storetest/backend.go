package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// Methods returns a call of every method of b that may fail. Where nothing is
// unavailable, they find "k" with the value "v" and leave something else.
func Methods(b store.Backend) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"ready": b.Ready,
		"put": func(ctx context.Context) error {
			_, err := b.PutIfAbsent(ctx, "mfa:new", []byte("v"), time.Minute)
			return err
		},
		"replace": func(ctx context.Context) error {
			_, err := b.Replace(ctx, "mfa:k", []byte("v"), []byte("w"), time.Minute)
			return err
		},
		"update": func(ctx context.Context) error { return b.Update(ctx, "mfa:k", []byte("w")) },
		"get":    func(ctx context.Context) error { _, err := b.Get(ctx, "mfa:k"); return err },
		"delete": func(ctx context.Context) error { return b.Delete(ctx, "mfa:k") },
		"list":   func(ctx context.Context) error { _, err := b.List(ctx, ""); return err },
	}
}

func putIfAbsent(t *testing.T, b store.Backend) {
	ctx := t.Context()
	if got, err := b.PutIfAbsent(ctx, "mfa:k", []byte("first"), time.Minute); got != nil || err != nil {
		t.Fatalf("first put = %q, %v; want nil, nil", got, err)
	}
	if got, err := b.PutIfAbsent(ctx, "mfa:k", []byte("second"), time.Minute); string(got) != "first" || err != nil {
		t.Fatalf("second put = %q, %v; want first, nil", got, err)
	}
	wantValue(t, b, "mfa:k", "first")
}

func replace(t *testing.T, b store.Backend) {
	ctx := t.Context()
	mustPut(t, b, "mfa:k", "old")
	if got, err := b.Replace(ctx, "mfa:k", []byte("other"), []byte("x"), time.Minute); string(got) != "old" || err != nil {
		t.Fatalf("replace of what is not there = %q, %v; want old, nil", got, err)
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

func update(t *testing.T, b store.Backend) {
	ctx := t.Context()
	if err := b.Update(ctx, "mfa:k", []byte("v")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("update of nothing = %v; want ErrNotFound", err)
	}
	if _, err := b.PutIfAbsent(ctx, "mfa:k", []byte("old"), 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(ctx, "mfa:k", []byte("new")); err != nil {
		t.Fatal(err)
	}
	wantValue(t, b, "mfa:k", "new")
	Eventually(t, func() bool { return errors.Is(b.Update(ctx, "mfa:k", []byte("newer")), store.ErrNotFound) })
	if _, err := b.Get(ctx, "mfa:k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get after the deadline = %v; want ErrNotFound", err)
	}
}

func remove(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "v")
	if err := b.Delete(t.Context(), "mfa:k"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "mfa:k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second delete = %v; want ErrNotFound", err)
	}
	if _, err := b.Get(t.Context(), "mfa:k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get after delete = %v; want ErrNotFound", err)
	}
}

func list(t *testing.T, b store.Backend) {
	want := map[string][]byte{}
	for i := range 2500 { // more than one page of any cursor
		key := fmt.Sprintf("mfa:a:%d", i)
		want[key] = []byte(key)
		mustPut(t, b, key, key)
	}
	mustPut(t, b, "mfa:b:0", "other")
	got, err := b.List(t.Context(), "mfa:a:")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list (-want +got):\n%s", diff)
	}
}

func ttl(t *testing.T, b store.Backend) {
	ctx := t.Context()
	if _, err := b.PutIfAbsent(ctx, "mfa:put", []byte("v"), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "mfa:swapped", "old")
	if _, err := b.Replace(ctx, "mfa:swapped", []byte("old"), []byte("v"), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"mfa:put", "mfa:swapped"} {
		if got, err := b.PutIfAbsent(ctx, key, []byte("later"), time.Hour); string(got) != "v" || err != nil {
			t.Fatalf("put of %s before the ttl = %q, %v; want v, nil", key, got, err)
		}
	}
	for _, key := range []string{"mfa:put", "mfa:swapped"} {
		Eventually(t, func() bool {
			_, err := b.Get(ctx, key)
			return errors.Is(err, store.ErrNotFound)
		})
	}
	if got, err := b.List(ctx, ""); len(got) != 0 || err != nil {
		t.Fatalf("list after the ttl = %v, %v; want nothing", got, err)
	}
}

func doneContext(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "v")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	if _, err := b.Get(t.Context(), "mfa:new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get of what a done context put = %v; want ErrNotFound", err)
	}
}

func mustPut(t *testing.T, b store.Backend, key, value string) {
	t.Helper()
	if existing, err := b.PutIfAbsent(t.Context(), key, []byte(value), time.Minute); existing != nil || err != nil {
		t.Fatalf("put %s = %q, %v; want nil, nil", key, existing, err)
	}
}

func wantValue(t *testing.T, b store.Backend, key, want string) {
	t.Helper()
	if got, err := b.Get(t.Context(), key); string(got) != want || err != nil {
		t.Fatalf("get %s = %q, %v; want %q", key, got, err, want)
	}
}
