package store

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/redis/go-redis/v9"
)

const (
	// pipelines is how many are on their way to a server at once. While they are, what
	// comes in the meantime gathers for the next one: under load, many commands share one
	// write and one read, and with little load none of them waits.
	pipelines = 2

	// maxPipeline bounds the commands of one pipeline, and with them what is lost to all of
	// them if its connection breaks.
	maxPipeline = 128
)

var errClosed = errors.New("the client is closed")

// pipeliner sends the commands of concurrent callers to one server together. A command
// succeeds or fails as it would alone, except that a connection which breaks, or a server
// that hangs, concerns the whole of a pipeline. It is for one server, or one at a time: in
// a cluster, a primary that hangs would hold up the commands for all others.
//
// go-redis has an AutoPipeliner, which is experimental: it does not heed the context of a
// command, and may hold one back to see whether more come.
type pipeliner struct {
	client  redis.UniversalClient
	pending chan *pending
	closed  chan struct{}
	closing sync.Once
	running sync.WaitGroup
}

// pending is a command that waits for its turn or for its reply.
type pending struct {
	ctx  context.Context //nolint:containedctx // It belongs to the caller's command, which has no place of its own for it.
	cmd  redis.Cmder
	done chan struct{} // closed once cmd has its result
}

func newPipeliner(client redis.UniversalClient) *pipeliner {
	p := &pipeliner{client: client, pending: make(chan *pending, maxPipeline), closed: make(chan struct{})}
	for range pipelines {
		p.running.Go(p.run)
	}
	return p
}

// do returns once cmd has its result, or once ctx is done: then cmd must not be looked at,
// and nobody knows whether it was executed.
func (p *pipeliner) do(ctx context.Context, cmd redis.Cmder) error {
	own := &pending{ctx, cmd, make(chan struct{})}
	select {
	case p.pending <- own:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closed:
		return errClosed
	}
	select {
	case <-own.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closed:
		return errClosed
	}
}

// run sends pipelines until p is closed.
func (p *pipeliner) run() {
	for {
		select {
		case first := <-p.pending:
			runtime.Gosched() // Whoever is about to add a command does so first.
			p.send(first)
		case <-p.closed:
			return
		}
	}
}

// send sends what is pending together with first, but for commands whose callers have
// left: of those, none begins.
func (p *pipeliner) send(first *pending) {
	batch := p.client.Pipeline()
	var sent []*pending
	for next := first; next != nil; next = p.next(len(sent)) {
		if next.ctx.Err() == nil {
			sent = append(sent, next)
			_ = batch.Process(next.ctx, next.cmd) // it is only queued, which cannot fail
		}
	}
	if len(sent) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_, _ = batch.Exec(ctx) // each command has its own error
	for _, s := range sent {
		close(s.done)
	}
}

// next returns another command that is pending now, or nil if there is none, or if a
// pipeline that has n is long enough.
func (p *pipeliner) next(n int) *pending {
	if n >= maxPipeline {
		return nil
	}
	select {
	case next := <-p.pending:
		return next
	default:
		return nil
	}
}

// close ends p. Callers that wait are told so.
func (p *pipeliner) close() {
	p.closing.Do(func() { close(p.closed) })
	p.running.Wait()
}
