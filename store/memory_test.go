package store_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestMemory_RefusesEntriesWhenFullOfLiveOnes(t *testing.T) {
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
		t.Fatalf("put of an entry that a full store has = %q, %v; want v", got, err)
	}
	clock.Advance(time.Minute)
	if got, err := memory.PutIfAbsent(t.Context(), "more", []byte("v"), time.Minute); got != nil || err != nil {
		t.Fatalf("put after the other entries expired = %q, %v; want nil", got, err)
	}
}
