// Command mfa is the multi-factor endpoint of the quiva.ai gateway.
//
// This package is the program around the packages that do the work: commands
// and settings (command.go, settings.go, serve.go, dev.go, apikey.go, document.go,
// healthcheck.go), its life (stop.go, reload.go, tls.go, notify.go), its connections
// (connections.go), the way of a request to its operation and of an error to its answer
// (api.go, operations.go, errors.go, logging.go, address.go), and what is for operators
// alone (admin.go, inspect.go, and observe.go with metrics.go, tracing.go and otel.go).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	status := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
