package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"quiva.ai/mfa/store/storetest"
)

func TestMain(m *testing.M) {
	// This goroutine of go-redis sees a second late that its client was closed.
	goleak.VerifyTestMain(storetest.Main(m), goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}
