package store

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxPipeline bounds the commands of one pipeline, and with them what is lost to all of
	// them if its connection breaks.
	maxPipeline = 256

	// enough commands are not kept waiting for more: when the processors are overloaded, it
	// takes long until all others have had their turn.
	enough = 64

	// maxSenders bounds the pipelines that are on their way at once, and patience, more or
	// less, how long the next one waits for those before it: a server that is near has
	// answered by then.
	maxSenders = 8
	patience   = 5 * time.Millisecond
)

// pipeliner sends the commands of concurrent callers to one server together. While a
// pipeline is on its way, what comes gathers for the next one: under load, many commands
// share one write and one read. A command that is alone is sent by its caller.
//
// A command succeeds or fails as it would alone, except that a connection which breaks, or
// a server that hangs, concerns the whole of a pipeline, and that the others of a pipeline
// are kept on a connection to a server which refuses one of them. It is for one server, or
// one at a time: in a cluster, a primary that hangs would hold up the commands for all others.
//
// go-redis has an AutoPipeliner, which is experimental: it does not heed the context of a
// command, and may hold one back to see whether more come.
type pipeliner struct {
	client redis.UniversalClient
	used   sync.Pool // of *waiter

	mu      sync.Mutex
	queue   []*waiter // what is not on its way yet; those who have left meanwhile, too
	senders int       // each sends until the queue is empty
	sent    time.Time // when the last pipeline went on its way
	waking  bool      // wake is due
}

// waiter is a command that waits for its turn or for its reply.
type waiter struct {
	ctx  context.Context //nolint:containedctx // It belongs to the caller's command, which has no place of its own for it.
	cmd  redis.Cmder
	done chan struct{} // is sent to, and has room for it, once cmd has its result
}

func newPipeliner(client redis.UniversalClient) *pipeliner {
	return &pipeliner{
		client: client,
		used:   sync.Pool{New: func() any { return &waiter{done: make(chan struct{}, 1)} }},
	}
}

// do returns once cmd has its result, or once ctx is done: then cmd must not be looked at,
// and nobody knows whether it was executed.
func (p *pipeliner) do(ctx context.Context, cmd redis.Cmder) error {
	own, ok := p.used.Get().(*waiter)
	if !ok {
		own = &waiter{done: make(chan struct{}, 1)} // which the pool would have made
	}
	own.ctx, own.cmd = ctx, cmd
	if p.enqueue(own) {
		runtime.Gosched() // Whoever is about to add a command does so first.
		if p.takeOnly(own) {
			defer p.handOver()
			defer p.reuse(own)
			return p.client.Process(ctx, cmd) // cheaper than a pipeline of one
		}
		go p.send()
	}
	select {
	case <-own.done:
		p.reuse(own) // In the other case, it may still be looked at.
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipeliner) reuse(own *waiter) {
	own.ctx, own.cmd = nil, nil
	p.used.Put(own)
}

// enqueue tells whether the caller becomes a sender.
func (p *pipeliner) enqueue(own *waiter) (send bool) {
	now := time.Now() //nolint:forbidigo // It measures a wait, which no clock of anybody's changes.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, own)
	if p.senders > 0 && (p.senders == maxSenders || now.Sub(p.sent) < patience) {
		p.wakeLater()
		return false
	}
	p.senders++
	p.sent = now
	return true
}

// wakeLater has what waits looked after once patience is over, even if nothing more comes.
// The caller holds mu.
func (p *pipeliner) wakeLater() {
	if !p.waking {
		p.waking = true
		time.AfterFunc(patience, p.wake)
	}
}

// wake finds another sender for what still waits, if those that there are are stuck.
func (p *pipeliner) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waking = false
	if len(p.queue) == 0 {
		return
	}
	if p.senders < maxSenders && time.Since(p.sent) >= patience { //nolint:forbidigo // as in enqueue
		p.senders++
		go p.send()
	}
	p.wakeLater()
}

// takeOnly takes the caller's own command from the queue if there is no other.
func (p *pipeliner) takeOnly(own *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) != 1 || p.queue[0] != own {
		return false
	}
	p.queue = p.queue[:0]
	return true
}

// handOver has what has come meanwhile sent by somebody else than the caller.
func (p *pipeliner) handOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		go p.send()
	} else {
		p.senders--
	}
}

// send sends pipelines until the queue is empty.
func (p *pipeliner) send() {
	var batch []*waiter
	for {
		batch = p.next(batch[:0])
		if len(batch) == 0 {
			return
		}
		p.execute(batch)
		if p.waiting() < enough {
			runtime.Gosched() // Whoever is about to add a command does so first.
		}
	}
}

func (p *pipeliner) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

// next moves commands from the queue to batch. If there are none, the caller ceases to be
// a sender.
func (p *pipeliner) next(batch []*waiter) []*waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.senders--
		return batch
	}
	n := min(len(p.queue), maxPipeline)
	batch = append(batch, p.queue[:n]...)
	p.queue = slices.Delete(p.queue, 0, n)
	p.sent = time.Now() //nolint:forbidigo // as in enqueue
	return batch
}

// execute sends a pipeline, but for the commands whose callers have left: of those, none
// begins.
func (p *pipeliner) execute(batch []*waiter) {
	pipeline := p.client.Pipeline()
	sent := batch[:0]
	for _, command := range batch {
		if command.ctx.Err() == nil {
			sent = append(sent, command)
			_ = pipeline.Process(command.ctx, command.cmd) // it is only queued, which cannot fail
		}
	}
	if len(sent) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_, _ = pipeline.Exec(ctx) // each command has its own error
	for _, command := range sent {
		command.done <- struct{}{}
	}
}
