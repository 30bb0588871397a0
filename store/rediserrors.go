package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// unavailable translates an error of go-redis other than redis.Nil: a refused connection, a
// timeout, a lost reply, an unexpected reply. None of them tells what Redis did.
func unavailable(err error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, redactedError{err})
}

// redactedError leaves out the arguments that Redis repeats of an unknown command. If AUTH
// was renamed, they hold the password.
type redactedError struct{ error }

// Error implements error.
func (e redactedError) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), ", with args beginning with")
	return text
}

// Unwrap gives errors.Is and errors.As the error of go-redis.
func (e redactedError) Unwrap() error { return e.error }

var (
	deniedCommand  = regexp.MustCompile(`'([^']+)' command`)
	unknownCommand = regexp.MustCompile("(?i)^ERR unknown command ['`]?([a-z]+)")
)

// refusedCommand returns the command that Redis refuses by err, and why: the user may not
// use it, or rename-command has renamed it. It may be a command of the handshake, such as
// SELECT, and not the command that was called. If the user lacks the key's permission, Redis
// names no command.
func refusedCommand(err error) (command, why string, refused bool) {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return "", "", false
	}
	named := unknownCommand.FindStringSubmatch(reply.Error())
	if named != nil {
		why = ", because Redis does not know it: was it renamed?"
	} else if named = deniedCommand.FindStringSubmatch(reply.Error()); !redis.IsPermissionError(err) {
		return "", "", false
	}
	if named != nil {
		command = strings.ToUpper(strings.ReplaceAll(named[1], "|", " "))
	}
	return command, why, true
}

// panicHook turns a panic of go-redis into the error of its command. go-redis panics on a
// reply that announces more elements than a slice can have. In a goroutine of the
// pipeliner, a panic would end the service. go-redis runs no hook on the commands that it
// sends to sentinels by itself.
type panicHook struct{}

// DialHook implements redis.Hook.
func (panicHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (panicHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) (err error) {
		defer func() {
			if fault := recover(); fault != nil {
				err = fmt.Errorf("panic: %v", fault)
				cmd.SetErr(err)
			}
		}()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook. All commands get the error, also those that
// had their replies before the panic.
func (panicHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) (err error) {
		defer func() {
			if fault := recover(); fault != nil {
				err = fmt.Errorf("panic: %v", fault)
				for _, cmd := range cmds {
					cmd.SetErr(err)
				}
			}
		}()
		return next(ctx, cmds)
	}
}
