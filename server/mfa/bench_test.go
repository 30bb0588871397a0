package mfa

import (
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store"
)

// BenchmarkGenerateTOTPKey is the whole operation on a memory store, with a key to make
// and with one that is pending.
func BenchmarkGenerateTOTPKey(b *testing.B) {
	for name, passes := range map[string]time.Duration{"created": 10 * time.Minute, "reused": 0} {
		b.Run(name, func(b *testing.B) {
			o, _, clock := newOperations(b, &strings.Builder{})
			b.ReportAllocs()
			for b.Loop() {
				clock.Advance(passes)
				if _, err := generate(b, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOTPAuthURL(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		otpauthURL("quiva.ai", accountName("ada@example.com"), store.Secret{})
	}
}
