package storetest

import (
	"testing"
	"time"
)

// Eventually polls until condition holds. It is for conditions that depend on real time or
// on another process. After 20 s the test fails.
func Eventually(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not hold within 20 s")
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
