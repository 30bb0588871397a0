package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"quiva.ai/mfa/store"
)

func TestARequestIDIsTakenOverIfItIsOne(t *testing.T) {
	const hexadecimal = "0123456789abcdefABCDEF0123456789"
	for id, want := range map[string]bool{
		"123e4567-e89b-12d3-a456-426614174000": true, hexadecimal: true, hexadecimal[:16]: true, hexadecimal + hexadecimal: true,
		"": false, "1234": false, hexadecimal[:15]: false, hexadecimal + hexadecimal + "0": false,
		"-" + hexadecimal: false, hexadecimal + "-": false, hexadecimal + "g": false, hexadecimal + "\n": false,
	} {
		if got := requestID(http.Header{"X-Request-Id": {id}}); (got == id) != want {
			t.Errorf("%q: %q; want that it is taken over: %t", id, got, want)
		}
	}
}

func TestALongTextIsCutHoweverHarmless(t *testing.T) {
	var line strings.Builder
	newLogger(&line, slog.LevelInfo, "json").Info("text", "error", strings.Repeat("x", maxLogText+1))
	if want := strings.Repeat("x", maxLogText) + " (truncated)"; !strings.Contains(line.String(), `"`+want+`"`) {
		t.Errorf("%d bytes; want %d letters and that it is cut", line.Len(), maxLogText)
	}
}

// That a client has left is no excuse for what would have failed anyway.
func TestWhatFailsWhileItsClientLeavesIsAFault(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, row := range []struct {
		left bool
		err  error
		want slog.Level
	}{
		{true, fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled), slog.LevelInfo},
		{true, store.ErrUnavailable, slog.LevelWarn},
		{true, errors.New("fault"), slog.LevelError},
		{false, context.Canceled, slog.LevelError},
	} {
		ctx := t.Context()
		if row.left {
			ctx = left
		}
		if level, _ := classify(ctx, row.err, http.StatusServiceUnavailable); level != row.want {
			t.Errorf("%v, client left %t: %v; want %v", row.err, row.left, level, row.want)
		}
	}
}
