package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// fakeServer is a hook of go-redis that takes the place of a server. It records what comes
// in one write, holds it while held is not closed, and replies with each command's key.
type fakeServer struct {
	held <-chan struct{} // nil holds nothing

	mu     sync.Mutex
	writes [][]string // the keys of each write
}

func (f *fakeServer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fakeServer) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { f.serve([]redis.Cmder{cmd}); return nil }
}

func (f *fakeServer) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error { f.serve(cmds); return nil }
}

func (f *fakeServer) serve(cmds []redis.Cmder) {
	var keys []string
	for _, cmd := range cmds {
		keys = append(keys, fmt.Sprint(cmd.Args()[1]))
	}
	f.mu.Lock()
	f.writes = append(f.writes, keys)
	held := f.held
	f.mu.Unlock()
	if held != nil {
		<-held
	}
	for i, cmd := range cmds {
		cmd.(*redis.StringCmd).SetVal(keys[i])
	}
}

// hold has later writes wait until the returned function is called.
func (f *fakeServer) hold() (release func()) {
	held := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = held
	return func() {
		f.mu.Lock()
		f.held = nil
		f.mu.Unlock()
		close(held)
	}
}

// sizes returns the number of commands of each write, and forgets them.
func (f *fakeServer) sizes() (sizes []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, keys := range f.writes {
		sizes = append(sizes, len(keys))
	}
	f.writes = nil
	return sizes
}

// testPipeliner runs a test in a bubble of fake time, with a pipeliner on a fakeServer. In
// the end no sender and no command may remain.
func testPipeliner(t *testing.T, test func(t *testing.T, p *pipeliner, server *fakeServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{}
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
		client.AddHook(server)
		p := newPipeliner(client)
		test(t, p, server)
		time.Sleep(time.Second) // of fake time, for the timer
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.senders != 0 || len(p.queue) != 0 || p.timerSet {
			t.Errorf("%d senders and %d commands remain, timer set %t; want none", p.senders, len(p.queue), p.timerSet)
		}
		client.Close()
	})
}

// get starts a GET of key on a goroutine and returns once it is in the queue or on its way.
// The channel gets the reply, or the error in its place.
func get(ctx context.Context, p *pipeliner, key string) <-chan string {
	result := make(chan string, 1)
	go func() {
		cmd := redis.NewStringCmd(ctx, "GET", key)
		if err := p.do(ctx, cmd); err != nil {
			result <- err.Error()
			return
		}
		result <- cmd.Val()
	}()
	synctest.Wait()
	return result
}

func getAll(ctx context.Context, p *pipeliner, n int) (results []<-chan string) {
	for i := range n {
		results = append(results, get(ctx, p, fmt.Sprint(i)))
	}
	return results
}

func wantReplies(t *testing.T, results []<-chan string) {
	t.Helper()
	for i, result := range results {
		if got := <-result; got != fmt.Sprint(i) {
			t.Errorf("reply %d = %q", i, got)
		}
	}
}

func wantSizes(t *testing.T, server *fakeServer, want ...int) {
	t.Helper()
	if diff := cmp.Diff(want, server.sizes()); diff != "" {
		t.Errorf("commands of each write (-want +got):\n%s", diff)
	}
}

func TestPipeliner_SendsCommandsOneByOneWhenTheyComeOneByOne(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		wantReplies(t, getAll(t.Context(), p, 3))
		wantSizes(t, server, 1, 1, 1)
	})
}

func TestPipeliner_SendsCommandsThatCameMeanwhileTogether(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		release := server.hold()
		results := getAll(t.Context(), p, 20)
		wantSizes(t, server, 1)
		released := time.Now()
		release()
		wantReplies(t, results)
		wantSizes(t, server, 19)
		if waited := time.Since(released); waited != 0 { // of fake time: not until the timer
			t.Errorf("the second pipeline was sent after %v; want at once", waited)
		}
	})
}

func TestPipeliner_BoundsAPipeline(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		release := server.hold()
		results := getAll(t.Context(), p, 1+maxPipeline+44)
		release()
		wantReplies(t, results)
		wantSizes(t, server, 1, maxPipeline, 44)
	})
}

// The queue waits for the server at most slowReply after the last write, even if no further
// command comes. Later commands start further senders, up to maxSenders.
func TestPipeliner_DoesNotWaitForASlowServer(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		release := server.hold()
		results := getAll(t.Context(), p, 3)
		wantSizes(t, server, 1)
		time.Sleep(slowReply - time.Nanosecond)
		synctest.Wait()
		wantSizes(t, server)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantSizes(t, server, 2)
		for i := range 20 {
			time.Sleep(slowReply)
			results = append(results, get(t.Context(), p, fmt.Sprint(3+i)))
		}
		wantSizes(t, server, slices.Repeat([]int{1}, maxSenders-2)...)
		release()
		wantReplies(t, results)
		wantSizes(t, server, 20-(maxSenders-2))
	})
}

func TestPipeliner_LeavesOutCommandsWhoseCallersHaveLeft(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		release := server.hold()
		first := get(t.Context(), p, "first")
		ctx, leave := context.WithCancel(t.Context())
		left := get(ctx, p, "left")
		other := get(t.Context(), p, "other")
		leave()
		if got := <-left; got != context.Canceled.Error() {
			t.Errorf("GET left = %q; want %v", got, context.Canceled)
		}
		release()
		if got, want := <-first+" "+<-other, "first other"; got != want {
			t.Errorf("replies %q; want %q", got, want)
		}
		server.mu.Lock()
		defer server.mu.Unlock()
		if diff := cmp.Diff([][]string{{"first"}, {"other"}}, server.writes); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// If all callers of the queue have left, nothing is sent.
func TestPipeliner_SendsNoEmptyPipeline(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		release := server.hold()
		first := get(t.Context(), p, "first")
		ctx, leave := context.WithCancel(t.Context())
		left := get(ctx, p, "left")
		leave()
		<-left
		release()
		<-first
		wantSizes(t, server, 1)
	})
}

func TestPipeliner_CompletesAPipelineThatACallerHasLeft(t *testing.T) {
	testPipeliner(t, func(t *testing.T, p *pipeliner, server *fakeServer) {
		release := server.hold()
		first := get(t.Context(), p, "first")
		ctx, leave := context.WithCancel(t.Context())
		left := get(ctx, p, "left")
		others := getAll(t.Context(), p, 20)
		time.Sleep(slowReply) // of fake time: a second sender takes these 21 commands
		synctest.Wait()
		wantSizes(t, server, 1, 21)
		leave()
		if got := <-left; got != context.Canceled.Error() {
			t.Errorf("GET left = %q; want %v", got, context.Canceled)
		}
		release()
		wantReplies(t, others)
		<-first
	})
}

// A caller that becomes a sender takes only its own command out of the queue. If another
// sender has taken that, it takes none.
func TestPipeliner_RemoveIfAloneTakesOnlyTheCallersCommand(t *testing.T) {
	p := newPipeliner(nil)
	own, other := &queuedCommand{}, &queuedCommand{}
	for name, c := range map[string]struct {
		queue []*queuedCommand
		want  bool
		left  int
	}{
		"alone":                 {[]*queuedCommand{own}, true, 0},
		"before another":        {[]*queuedCommand{own, other}, false, 2},
		"taken, queue is empty": {nil, false, 0},
		"taken, another came":   {[]*queuedCommand{other}, false, 1},
	} {
		p.queue = c.queue
		if got := p.removeIfAlone(own); got != c.want || len(p.queue) != c.left {
			t.Errorf("%s: removed %t, %d left; want %t, %d", name, got, len(p.queue), c.want, c.left)
		}
	}
}

func TestPipeliner_ReturnsTheErrorOfAClosedClient(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	client.Close()
	cmd := redis.NewStringCmd(t.Context(), "GET", "key")
	if err := newPipeliner(client).do(t.Context(), cmd); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("GET = %v; want %v", err, redis.ErrClosed)
	}
}
