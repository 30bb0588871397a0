// Command mfa is the multi-factor endpoint of the quiva.ai gateway.
//
// Package main is the commands and the wiring: serve.go puts the packages together that do
// the work. A request's way is in package api, the operations are in package mfa.
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
