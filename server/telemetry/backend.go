package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"quiva.ai/mfa/store"
)

// outcomeUnavailable is the outcome of a store call without a result.
const outcomeUnavailable store.Outcome = "unavailable"

// outcomeOf names the result of a store call. A client that left is no fault of the store.
func outcomeOf(err error, success store.Outcome) string {
	switch {
	case err == nil:
		return string(success)
	case errors.Is(err, store.ErrNotFound):
		return "not_found"
	case errors.Is(err, store.ErrConflict):
		return "conflict"
	case errors.Is(err, context.Canceled):
		return "client_left"
	}
	return string(outcomeUnavailable)
}

// Backend returns next, with the calls that requests make measured and traced. Calls for
// administration and for /readyz are not: they would distort the figures of
// requests.
func (o *Observer) Backend(next store.Backend) store.Backend { return observedBackend{next, o} }

type observedBackend struct {
	store.Backend
	*Observer
}

// start begins a call. The caller passes the call's error to end.
func (b observedBackend) start(ctx context.Context, method string) (_ context.Context, end func(error)) {
	started := b.now()
	ctx, span := b.Span(ctx, "store "+method, trace.SpanKindClient)
	return ctx, func(err error) {
		outcome := outcomeOf(err, "ok")
		b.observeStore(method, outcome, b.now().Sub(started))
		if span.IsRecording() {
			span.SetAttributes(attribute.String("mfa.outcome", outcome))
			if outcome == string(outcomeUnavailable) {
				span.SetStatus(codes.Error, "")
			}
		}
		span.End()
	}
}

// PutIfAbsent implements store.Backend.
func (b observedBackend) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	ctx, end := b.start(ctx, "put_if_absent")
	existing, err := b.Backend.PutIfAbsent(ctx, key, value, ttl)
	end(err)
	return existing, err
}

// Swap implements store.Backend.
func (b observedBackend) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	ctx, end := b.start(ctx, "swap")
	err := b.Backend.Swap(ctx, key, old, value, ttl)
	end(err)
	return err
}

// Promote implements store.Backend.
func (b observedBackend) Promote(ctx context.Context, from, to string, oldFrom, oldTo, value []byte) error {
	ctx, end := b.start(ctx, "promote")
	err := b.Backend.Promote(ctx, from, to, oldFrom, oldTo, value)
	end(err)
	return err
}

// GetAll implements store.Backend.
func (b observedBackend) GetAll(ctx context.Context, keys ...string) ([][]byte, error) {
	ctx, end := b.start(ctx, "get_all")
	values, err := b.Backend.GetAll(ctx, keys...)
	end(err)
	return values, err
}

// Get implements store.Backend.
func (b observedBackend) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, end := b.start(ctx, "get")
	value, err := b.Backend.Get(ctx, key)
	end(err)
	return value, err
}

// Update implements store.Backend.
func (b observedBackend) Update(ctx context.Context, key string, value []byte) error {
	ctx, end := b.start(ctx, "update")
	err := b.Backend.Update(ctx, key, value)
	end(err)
	return err
}
