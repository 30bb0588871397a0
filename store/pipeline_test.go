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

// Concurrent callers share pipelines, and each gets the reply to its own command: those
// that fail, too.
func TestAPipelineGivesEachCallerItsOwnReply(t *testing.T) {
	server := storetest.StartRedis(t)
	backend := newRedis(t, server.URL)
	if err := server.Client.LPush(t.Context(), "list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for i := range 2000 {
		callers.Go(func() {
			key, value := fmt.Sprint("key", i), []byte(fmt.Sprint("value", i))
			if existing, err := backend.PutIfAbsent(t.Context(), key, value, time.Minute); existing != nil || err != nil {
				t.Errorf("put %s: %q, %v", key, existing, err)
			}
			if got, err := backend.Get(t.Context(), key); err != nil || string(got) != string(value) {
				t.Errorf("get %s: %q, %v", key, got, err)
			}
			if _, err := backend.Get(t.Context(), "list"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("get of a list: %v; want ErrUnavailable", err)
			}
			if _, err := backend.Get(t.Context(), "nothing"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("get of nothing: %v; want ErrNotFound", err)
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
	if _, err := fmt.Sscan(after, &reads); err != nil || reads > 4000 {
		t.Errorf("%d reads by Redis, %v, for 8000 commands; want that they share", reads, err)
	}
}

// hold has each GET of a key wait until release is closed, having told held of it.
func hold(proxy *storetest.Proxy, key string) (held <-chan struct{}, release chan<- struct{}) {
	arrived, end := make(chan struct{}), make(chan struct{})
	proxy.Do(storetest.Fault{Command: "get", Key: key, Action: func(x *storetest.Exchange) bool {
		arrived <- struct{}{}
		<-end
		return storetest.Pass(x)
	}})
	return arrived, end
}

// A caller who has left before its turn is not served: its command is not sent at all.
func TestACommandWhoseCallerHasLeftIsNotSent(t *testing.T) {
	server := storetest.StartRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	backend := newRedis(t, proxy.URL)
	held, release := hold(proxy, "slow")
	var slow sync.WaitGroup
	for range 8 { // all the senders that there may be
		slow.Go(func() { _, _ = backend.Get(context.Background(), "slow") })
		<-held
		time.Sleep(10 * time.Millisecond) // or else the next one waits for this one
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := backend.PutIfAbsent(ctx, "late", []byte("x"), time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want that its time is over", err)
	}
	close(release)
	slow.Wait()
	if _, err := backend.Get(t.Context(), "soon"); !errors.Is(err, store.ErrNotFound) { // what waited is through
		t.Fatal(err)
	}
	if n, err := server.Client.Exists(t.Context(), "late").Result(); n != 0 || err != nil {
		t.Errorf("%d, %v; want that it is not there: nobody waited for it any more", n, err)
	}
}

// A caller who leaves while its pipeline is on its way takes nothing from the others: not
// the pipeline, nor the place of somebody who comes after it.
func TestWhoLeavesAPipelineLeavesItToTheOthers(t *testing.T) {
	server := storetest.StartRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	backend := newRedis(t, proxy.URL)
	for i := range 40 {
		if _, err := backend.PutIfAbsent(t.Context(), fmt.Sprint("key", i), []byte(fmt.Sprint("value", i)), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	held, release := hold(proxy, "slow")
	var slow, others sync.WaitGroup
	for range 8 { // all the senders that there may be, so that what comes gathers
		slow.Go(func() { _, _ = backend.Get(context.Background(), "slow") })
		<-held
		time.Sleep(10 * time.Millisecond) // or else the next one waits for this one
	}
	get := func(i int) {
		others.Go(func() {
			if got, err := backend.Get(context.Background(), fmt.Sprint("key", i)); err != nil || string(got) != fmt.Sprint("value", i) {
				t.Errorf("key%d: %q, %v; want its value", i, got, err)
			}
		})
	}
	lateHeld, lateRelease := hold(proxy, "late")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	left := make(chan error)
	go func() {
		_, err := backend.Get(ctx, "late")
		left <- err
	}()
	time.Sleep(10 * time.Millisecond) // and is the first of its pipeline
	for i := range 20 {
		get(i)
	}
	time.Sleep(10 * time.Millisecond) // they wait
	close(release)
	<-lateHeld
	if err := <-left; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want that its time is over", err)
	}
	for i := range 20 {
		get(20 + i)
	}
	time.Sleep(10 * time.Millisecond) // what it has left to others
	close(lateRelease)
	others.Wait()
	slow.Wait()
}

// A server that is far away, or slow, holds up the commands that come later only briefly:
// they do not wait for its replies.
func TestWhatComesLaterDoesNotWaitForASlowReply(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.StartRedis(t).Addr)
	backend := newRedis(t, proxy.URL)
	held, release := hold(proxy, "slow")
	var slow sync.WaitGroup
	for range 2 { // of the senders that there may be
		slow.Go(func() {
			if _, err := backend.Get(context.Background(), "slow"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("get of what is slow: %v; want ErrNotFound", err)
			}
		})
		<-held
		time.Sleep(10 * time.Millisecond) // more than the next one waits
	}
	for i := range 6 { // one by one, so that none has the next one to wake it
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if _, err := backend.Get(ctx, fmt.Sprint(i)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get meanwhile, alone: %v; want ErrNotFound", err)
		}
		cancel()
	}
	var others sync.WaitGroup
	for i := range 20 {
		others.Go(func() {
			if _, err := backend.Get(t.Context(), fmt.Sprint(i)); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("get meanwhile: %v; want ErrNotFound", err)
			}
		})
	}
	others.Wait()
	close(release)
	slow.Wait()
}

// However many pipelines hang, and though their callers have left long ago, they end soon.
func TestPipelinesThatHangEndAndLetOthersPass(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.StartRedis(t).Addr)
	backend := newRedis(t, proxy.URL)
	proxy.Do(storetest.Fault{Command: "get", Key: "held", Action: storetest.Hold})
	var callers sync.WaitGroup
	for range 20 { // more than may be on their way
		for range 5 {
			callers.Go(func() {
				ctx, leave := context.WithTimeout(context.Background(), 50*time.Millisecond)
				defer leave()
				if _, err := backend.Get(ctx, "held"); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("get of what is held: %v; want ErrUnavailable", err)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
	}
	callers.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := backend.Get(ctx, "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get afterwards: %v; want ErrNotFound", err)
	}
}

// unwritable has go-redis panic while it writes a command.
type unwritable struct{}

func (unwritable) MarshalBinary() ([]byte, error) { panic("unwritable") }

func TestAPanicIsAnError(t *testing.T) {
	for name, url := range map[string]string{"one server": storetest.StartRedis(t).URL, "cluster": storetest.StartCluster(t).URL} {
		backend := newRedis(t, url)
		wantPanic := func(err error) {
			if err == nil || err.Error() != "panic: unwritable" {
				t.Errorf("%s: %v; want the panic as an error", name, err)
			}
		}
		wantPanic(backend.Client().Set(t.Context(), "key", unwritable{}, time.Minute).Err())
		if name == "one server" { // in a cluster there are no pipelines
			pipeline := backend.Client().Pipeline()
			first, second := pipeline.Get(t.Context(), "key"), pipeline.Set(t.Context(), "key", unwritable{}, time.Minute)
			_, err := pipeline.Exec(t.Context())
			wantPanic(err)
			wantPanic(first.Err())
			wantPanic(second.Err())
		}
		if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: get afterwards: %v; want ErrNotFound", name, err)
		}
	}
}

func TestAClosedClientAnswersAtOnce(t *testing.T) {
	backend := newRedis(t, storetest.StartRedis(t).URL)
	if err := backend.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.Get(t.Context(), "key"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("get: %v; want ErrUnavailable", err)
	}
}
