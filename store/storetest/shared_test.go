package storetest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"quiva.ai/mfa/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storetest.Main(m)) }

// A full pipe would block redis-server.
func TestStartRedis_ReadsALongLog(t *testing.T) {
	server := storetest.SharedRedis(t)
	const log = `for _ = 1, 1000 do redis.log(redis.LOG_WARNING, string.rep('x', 1000)) end return 'done'`
	if got, err := server.Client.Eval(t.Context(), log, nil).Text(); got != "done" || err != nil {
		t.Errorf("EVAL = %q, %v; want done", got, err)
	}
}

func TestSharedRedis_IsOneEmptyServer(t *testing.T) {
	first := storetest.SharedRedis(t)
	if err := first.Client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	second := storetest.SharedRedis(t)
	if second.Addr != first.Addr || len(second.Dump(t)) != 0 || len(second.Calls(t)) != 1 { // Dump sent one SCAN.
		t.Errorf("second call: at %s with %v and %v; want %s, no entries, one SCAN", second.Addr, second.Dump(t), second.Calls(t), first.Addr)
	}
}

func TestSharedRedis_PanicsInAParallelTest(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic; want one, because parallel tests would empty each other's server")
		}
	}()
	storetest.SharedRedis(t)
}

// child runs one test of this binary in a process of its own.
func child(t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// In the child process this test fails, because no redis-server is on its PATH.
func TestSharedRedis_FailsWithoutRedisServer(t *testing.T) {
	if os.Getenv("STORETEST_CHILD") != "" {
		storetest.SharedRedis(t)
		return
	}
	out, err := child(t, t.Name(), "STORETEST_CHILD=1", "PATH=").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+t.Name()) || !strings.Contains(string(out), "apt-get install redis-server") {
		t.Errorf("%v, output %s; want a failure with the command that installs redis-server", err, out)
	}
}
