package storetest

import (
	"context"
	"os"
	"testing"
)

// shared is the redis-server of SharedRedis, in dir.
var shared struct {
	server *RedisServer
	dir    string
}

// SharedRedis returns the one redis-server that the tests of a binary share, without
// entries and with its statistics reset. The first call starts it; Main, in the package's
// TestMain, ends it.
//
// Each call empties the server, so only one test at a time may use it: in a parallel test
// SharedRedis panics. A test must not stop, restart or configure the shared server; such a
// test calls StartRedis.
//
// Without redis-server on PATH the test fails.
func SharedRedis(t testing.TB) *RedisServer {
	t.Helper()
	t.Setenv("STORETEST_SHARED_REDIS", t.Name()) // Setenv panics in a parallel test.
	if shared.server == nil {
		shared.server = launch(t, shared.dir)
	}
	ctx := context.Background()
	must(t, shared.server.Client.FlushAll(ctx).Err())
	must(t, shared.server.Client.ConfigResetStat(ctx).Err())
	return shared.server
}

// Runner runs the tests of a package and then ends the shared server.
type Runner struct{ m *testing.M }

// Main returns a Runner for a package's TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(storetest.Main(m).Run()) }
//
// With goleak the server has ended before goleak looks for goroutines:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(storetest.Main(m)) }
func Main(m *testing.M) Runner { return Runner{m} }

// Run returns the exit status of the tests.
func (r Runner) Run() int {
	dir, err := os.MkdirTemp("", "storetest")
	if err != nil {
		panic(err)
	}
	shared.dir = dir
	defer func() {
		if shared.server != nil {
			shared.server.close()
		}
		_ = os.RemoveAll(dir)
	}()
	return r.m.Run()
}
