// Command mfa is the multi-factor endpoint of the quiva.ai gateway.
//
// Package main is the commands and the wiring: serve.go puts the packages together that do
// the work. Package api takes a request to its operation, and package mfa has the operations.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, release) // a second signal ends the process at once
	status := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	release()
	os.Exit(status)
}
