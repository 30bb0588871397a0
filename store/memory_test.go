package store_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestMemoryContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Backend { return store.NewMemory(time.Now) })
}

func TestMemoryIsBoundedAndForgetsTheExpired(t *testing.T) {
	clock := storetest.NewClock()
	memory := store.NewMemory(clock.Now)
	for i := range 100_000 {
		if _, err := memory.PutIfAbsent(t.Context(), strconv.Itoa(i), []byte("v"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := memory.PutIfAbsent(t.Context(), "more", []byte("v"), time.Minute); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("put into a full store = %v; want ErrUnavailable", err)
	}
	if got, err := memory.PutIfAbsent(t.Context(), "7", []byte("w"), time.Minute); string(got) != "v" || err != nil {
		t.Fatalf("put of what a full store has = %q, %v; want v", got, err)
	}
	clock.Advance(time.Minute)
	if got, err := memory.PutIfAbsent(t.Context(), "more", []byte("v"), time.Minute); got != nil || err != nil {
		t.Fatalf("put after the others expired = %q, %v; want nil", got, err)
	}
}

func TestMemoryForgetsAtTheDeadline(t *testing.T) {
	clock := storetest.NewClock()
	memory := store.NewMemory(clock.Now)
	if _, err := memory.PutIfAbsent(t.Context(), "k", []byte("v"), time.Minute); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute - time.Nanosecond)
	if got, err := memory.Get(t.Context(), "k"); string(got) != "v" || err != nil {
		t.Fatalf("get just before the deadline = %q, %v; want v", got, err)
	}
	clock.Advance(time.Nanosecond)
	if _, err := memory.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get at the deadline = %v; want ErrNotFound", err)
	}
}

// What a caller passes in or gets back is theirs: to change it changes nothing here.
func TestMemorySharesNoBytesWithItsCallers(t *testing.T) {
	ctx := t.Context()
	memory := store.NewMemory(time.Now)
	for _, write := range []func([]byte) error{
		func(v []byte) error { _, err := memory.PutIfAbsent(ctx, "k", v, time.Minute); return err },
		func(v []byte) error { return memory.Update(ctx, "k", v) },
	} {
		value := []byte("value")
		if err := write(value); err != nil {
			t.Fatal(err)
		}
		value[0] = 'X'
		for reader, read := range map[string]func() ([]byte, error){
			"get":  func() ([]byte, error) { return memory.Get(ctx, "k") },
			"put":  func() ([]byte, error) { return memory.PutIfAbsent(ctx, "k", nil, time.Minute) },
			"list": func() ([]byte, error) { found, err := memory.List(ctx, "k"); return found["k"], err },
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
