package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// 2000 concurrent callers share pipelines. Some of their commands fail.
func TestPipeliner_GivesEachCallerTheReplyToItsCommand(t *testing.T) {
	server := storetest.SharedRedis(t)
	backend := newRedis(t, server.URL)
	do(t, server, "LPUSH", "list", "x")
	var callers sync.WaitGroup
	for i := range 2000 {
		callers.Go(func() {
			key, value := fmt.Sprint("key", i), fmt.Sprint("value", i)
			if existing, err := backend.PutIfAbsent(t.Context(), key, []byte(value), time.Minute); existing != nil || err != nil {
				t.Errorf("PutIfAbsent %s = %q, %v; want nil, nil", key, existing, err)
			}
			if got, err := backend.Get(t.Context(), key); string(got) != value || err != nil {
				t.Errorf("Get %s = %q, %v; want %s", key, got, err, value)
			}
			if got, err := backend.Get(t.Context(), "list"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Get of a list = %q, %v; want ErrUnavailable", got, err)
			}
			if got, err := backend.Get(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Get of nothing = %q, %v; want ErrNotFound", got, err)
			}
		})
	}
	callers.Wait()
	stats, err := server.Client.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var reads int
	_, after, _ := strings.Cut(stats, "total_reads_processed:")
	if _, err := fmt.Sscan(after, &reads); err != nil || reads == 0 || reads > 4000 {
		t.Errorf("%d reads by Redis, %v; want at most 4000 for 8000 commands", reads, err)
	}
}

// The callers of a pipeline that hangs have left long before it ends. Later callers get
// their replies meanwhile.
func TestPipeliner_LetsOthersPassAHangingPipeline(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.SharedRedis(t).Addr)
	backend := newRedis(t, proxy.URL)
	proxy.Do(storetest.Fault{Command: "get", Key: "held", Action: storetest.Hold})
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := backend.Get(ctx, "held"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Get of a held key = %v; want ErrUnavailable", err)
			}
		})
	}
	callers.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := backend.Get(ctx, "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get afterwards = %v; want ErrNotFound", err)
	}
}
