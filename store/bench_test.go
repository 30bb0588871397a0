package store_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// BenchmarkPutIfAbsent is one command on a real Redis, without and with an entry.
func BenchmarkPutIfAbsent(b *testing.B) {
	redis := newRedis(b, storetest.SharedRedis(b).URL)
	value := make([]byte, 70) // about the size of a sealed secret
	n := 0
	for name, key := range map[string]func() string{
		"new":  func() string { n++; return "mfa:bench:" + strconv.Itoa(n) },
		"kept": func() string { return "mfa:bench" },
	} {
		b.Run(name, func(b *testing.B) {
			if _, err := redis.PutIfAbsent(context.Background(), key(), value, time.Hour); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				existing, err := redis.PutIfAbsent(context.Background(), key(), value, time.Hour)
				if err != nil || (existing == nil) != (name == "new") {
					b.Fatal(existing, err)
				}
			}
		})
	}
}

// BenchmarkGetOrCreate is a call without Redis: sealing, and opening if there is a secret.
func BenchmarkGetOrCreate(b *testing.B) {
	for _, outcome := range []store.Outcome{store.Created, store.Reused} {
		b.Run(string(outcome), func(b *testing.B) {
			clock := storetest.NewClock()
			pending := store.NewPending(store.NewMemory(clock.Now), storetest.NewKeyring(b, storetest.NewSealKey("k1")), time.Minute, clock.Now)
			secret := storetest.NewSecret()
			if _, err := pending.GetOrCreate(context.Background(), "ada", secret); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if outcome == store.Created {
					clock.Advance(time.Minute)
				}
				if key, err := pending.GetOrCreate(context.Background(), "ada", secret); err != nil || key.Outcome != outcome {
					b.Fatal(key.Outcome, err)
				}
			}
		})
	}
}
