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
	// maxPipeline is the most commands in one pipeline. All of them are lost if its
	// connection breaks.
	maxPipeline = 256

	// maxSenders is the most senders at a time, and so the most connections in use.
	maxSenders = 8

	// slowReply is the time after which a pipeline without replies no longer holds up the
	// commands in the queue: another sender takes them. A server nearby replies sooner.
	slowReply = 5 * time.Millisecond

	// longQueue is the number of queued commands for which a sender goes on at once. With
	// fewer, it first lets other goroutines run, which may add commands. On overloaded
	// processors that takes long.
	longQueue = 64
)

// pipeliner sends the commands of concurrent callers to one server in pipelines: many
// commands share one write and one read. This is the way of a command:
//
//  1. do puts the command into the queue.
//  2. If no sender is running, the caller becomes one. A sender takes all queued commands,
//     sends them as one pipeline, waits for the replies and tells the callers. It repeats
//     this until the queue is empty.
//  3. Commands that come while a sender waits for replies stay in the queue. They are the
//     next pipeline: the more commands, the longer the pipelines.
//  4. If the server is far away or slow, queued commands must not wait for the pipelines
//     before them. When slowReply has passed since the last pipeline was sent, the next
//     command starts another sender. If no command comes, a timer starts it.
//
// A caller only ever sends its own command. If that is alone in the queue, the caller sends
// it without a pipeline, which takes a third less time: the usual case under little load.
// All else is sent by goroutines that run send.
//
// A command succeeds or fails as it would alone, with two exceptions. If the connection
// breaks or the server hangs, the whole pipeline fails. And go-redis keeps a connection on
// which the server refused one command of a pipeline.
//
// In a cluster, a primary that hangs would hold up commands for the other primaries, so
// there is no pipeliner. go-redis's AutoPipeliner is experimental: it ignores the context
// of a command, and may delay a command to wait for others.
type pipeliner struct {
	client redis.UniversalClient

	mu       sync.Mutex
	queue    []*queuedCommand // also commands whose callers have left
	senders  int              // number of running senders
	lastSent time.Time        // when a sender last took commands
	timerSet bool             // checkQueue is due
}

// queuedCommand is a command in the queue or in a pipeline.
type queuedCommand struct {
	ctx  context.Context //nolint:containedctx // The caller's. go-redis's commands do not show theirs.
	cmd  redis.Cmder
	done chan struct{} // closed once cmd has its result
}

func newPipeliner(client redis.UniversalClient) *pipeliner { return &pipeliner{client: client} }

// do executes cmd and returns its error. If ctx is done first, do returns ctx's error: then
// it is unknown whether the command was executed, and the caller must not read cmd.
func (p *pipeliner) do(ctx context.Context, cmd redis.Cmder) error {
	command := &queuedCommand{ctx: ctx, cmd: cmd, done: make(chan struct{})}
	if p.enqueue(command) {
		runtime.Gosched() // Goroutines that are about to add a command do so first.
		if p.removeIfAlone(command) {
			defer p.stopSending()
			return p.client.Process(ctx, cmd)
		}
		go p.send()
	}
	select {
	case <-command.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enqueue puts a command into the queue and reports whether the caller becomes a sender.
func (p *pipeliner) enqueue(command *queuedCommand) (sender bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, command)
	if p.addSender() {
		return true
	}
	p.setTimer()
	return false
}

// addSender counts one more sender if no sender is running, or if those that run wait for
// a slow server. It reports whether it did. The caller holds mu.
func (p *pipeliner) addSender() bool {
	now := time.Now() //nolint:forbidigo // It measures the server, not the time of an entry.
	if p.senders > 0 && (p.senders == maxSenders || now.Sub(p.lastSent) < slowReply) {
		return false
	}
	p.senders++
	p.lastSent = now
	return true
}

// setTimer has the queue looked at after slowReply. The caller holds mu.
func (p *pipeliner) setTimer() {
	if !p.timerSet {
		p.timerSet = true
		time.AfterFunc(slowReply, p.checkQueue)
	}
}

// checkQueue starts another sender if commands still wait for a slow server.
func (p *pipeliner) checkQueue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timerSet = false
	if len(p.queue) == 0 {
		return
	}
	if p.addSender() {
		go p.send()
	}
	p.setTimer()
}

// removeIfAlone removes command from the queue if the queue holds no other command. It
// reports whether it did: another sender may have taken the command already.
func (p *pipeliner) removeIfAlone(command *queuedCommand) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) != 1 || p.queue[0] != command {
		return false
	}
	p.queue = p.queue[:0]
	return true
}

// stopSending ends the caller's time as a sender. If commands came meanwhile, a goroutine
// takes the caller's place.
func (p *pipeliner) stopSending() {
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
	for {
		commands := p.take()
		if len(commands) == 0 {
			return
		}
		p.execute(commands)
		if p.queued() < longQueue {
			runtime.Gosched() // as in do
		}
	}
}

func (p *pipeliner) queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

// take removes the next pipeline's commands from the queue. If there are none, the calling
// sender no longer counts.
func (p *pipeliner) take() []*queuedCommand {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.senders--
		return nil
	}
	n := min(len(p.queue), maxPipeline)
	commands := slices.Clone(p.queue[:n])
	p.queue = slices.Delete(p.queue, 0, n)
	p.lastSent = time.Now() //nolint:forbidigo // as in addSender
	return commands
}

// execute sends the commands as one pipeline and tells their callers. It leaves out
// commands whose callers have left.
func (p *pipeliner) execute(commands []*queuedCommand) {
	commands = slices.DeleteFunc(commands, func(c *queuedCommand) bool { return c.ctx.Err() != nil })
	pipeline := p.client.Pipeline()
	for _, c := range commands {
		_ = pipeline.Process(c.ctx, c.cmd) // only adds the command, and cannot fail
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_, _ = pipeline.Exec(ctx) // Each command has its own error. Without commands it sends nothing.
	for _, c := range commands {
		close(c.done)
	}
}
