package store

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// closedPipeliner is one whose commands all fail at once, because its client is closed.
func closedPipeliner(t *testing.T) *pipeliner {
	t.Helper()
	var url RedisURL
	if err := url.UnmarshalText([]byte("redis://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	client := url.connect(nil)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	return newPipeliner(client)
}

// A sender whose command another one has taken meanwhile leaves alone what came after it.
func TestASenderTakesNothingButItsOwnCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := closedPipeliner(t)
		own, other := &waiter{}, &waiter{}
		if !p.enqueue(own) || p.enqueue(other) {
			t.Fatal("want that the first one sends, for the second one too")
		}
		if p.takeOnly(own) {
			t.Error("it took its own command and dropped another's")
		}
		if batch := p.next(nil); len(batch) != 2 {
			t.Fatalf("%d commands; want both", len(batch))
		}
		p.enqueue(other)
		if p.takeOnly(own) {
			t.Error("it took another's command")
		}
		if batch := p.next(nil); len(batch) != 1 || batch[0] != other {
			t.Errorf("%d commands; want the other one", len(batch))
		}
	})
}

// What comes while a pipeline hangs is sent after a short wait, though nothing else comes
// that could set it off.
func TestWhatWaitsForAStuckSenderIsSentByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, millisecond := closedPipeliner(t), patience/5
		p.enqueue(&waiter{})
		time.Sleep(millisecond)
		p.enqueue(&waiter{}) // which is looked after at 6 ms
		time.Sleep(2 * millisecond)
		if stuck := p.next(nil); len(stuck) != 2 {
			t.Fatalf("%d commands on their way; want both", len(stuck))
		}
		for _, want := range []time.Duration{8 * millisecond, patience} { // at 6 ms, what is stuck has had but 3
			start := time.Now()
			err := p.do(t.Context(), redis.NewStringCmd(t.Context(), "GET", "x"))
			if waited := time.Since(start); !errors.Is(err, redis.ErrClosed) || waited != want {
				t.Errorf("%v after %v; want that it was sent after %v", err, waited, want)
			}
			synctest.Wait()
			if p.senders != 1 || len(p.queue) != 0 {
				t.Errorf("%d senders and %d commands remain; want the one that is stuck", p.senders, len(p.queue))
			}
		}
	})
}

// A caller that has sent its own command hands over to another sender at once.
func TestWhatCameMeanwhileIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, first := closedPipeliner(t), &waiter{}
		if !p.enqueue(first) || !p.takeOnly(first) {
			t.Fatal("want that the first command is sent by its caller")
		}
		start, ended := time.Now(), make(chan error)
		go func() { ended <- p.do(t.Context(), redis.NewStringCmd(t.Context(), "GET", "x")) }()
		synctest.Wait()
		p.handOver()
		if err, waited := <-ended, time.Since(start); !errors.Is(err, redis.ErrClosed) || waited != 0 {
			t.Errorf("%v after %v; want that it was sent at once", err, waited)
		}
		synctest.Wait()
		if p.senders != 0 {
			t.Errorf("%d senders remain", p.senders)
		}
	})
}

func TestAPipelineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := closedPipeliner(t)
		for i := range maxPipeline + 44 {
			if first := p.enqueue(&waiter{}); first != (i == 0) {
				t.Fatalf("command %d: becomes a sender: %t", i, first)
			}
		}
		time.Sleep(patience / 2)
		if n := len(p.next(nil)); n != maxPipeline {
			t.Fatalf("%d commands in a pipeline; want %d", n, maxPipeline)
		}
		time.Sleep(patience / 2)
		if p.enqueue(&waiter{}) {
			t.Error("a second sender, before the pipeline on its way had its time")
		}
		if n := len(p.next(nil)); n != 45 {
			t.Errorf("%d commands in the second pipeline; want those that are left", n)
		}
		if p.next(nil); p.senders != 0 {
			t.Errorf("%d senders remain", p.senders)
		}
	})
}
