package storetest_test

import (
	"testing"

	"quiva.ai/mfa/store/storetest"
)

func TestRedisMayLogMoreThanAPipeHolds(t *testing.T) {
	server := storetest.StartRedis(t)
	const log = `for _ = 1, 1000 do redis.log(redis.LOG_WARNING, string.rep('x', 1000)) end return 'done'`
	if got, err := server.Client.Eval(t.Context(), log, nil).Text(); got != "done" || err != nil {
		t.Errorf("EVAL = %q, %v; want done", got, err)
	}
}
