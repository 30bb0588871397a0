package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
)

func TestResponseTo(t *testing.T) {
	for _, row := range []struct {
		err    error
		status int
	}{
		{&auth.Refusal{}, 401},
		{&http.MaxBytesError{}, 413},
		{&openapi3filter.RequestError{Err: &http.MaxBytesError{}}, 413},
		{&openapi3filter.RequestError{}, 400},
		{errUnreadableBody, 400},
		{echo.NewHTTPError(http.StatusBadRequest), 400},
		{store.ErrUnavailable, 503},
		{auth.ErrKeysUnavailable, 503},
		{errOverloaded, 503},
		{echo.ErrNotFound, 404},
		{echo.ErrMethodNotAllowed, 405},
		{errNoResponse, 500},
		{echo.NewHTTPError(http.StatusUnauthorized), 500},
		{context.Canceled, 500},
		{&panicError{err: &auth.Refusal{}}, 500},
	} {
		if got := responseTo(fmt.Errorf("wrapped: %w", row.err)); got.status != row.status || got.message == "" {
			t.Errorf("%T %v: %+v; want %d and a message", row.err, row.err, got, row.status)
		}
	}
}

func TestResponseTo_SaysWhatIsWrongWithACode(t *testing.T) {
	for refusal, want := range map[mfa.Refusal]string{
		{Reason: mfa.WrongCode}:                 "the code that your app shows now",
		{Reason: mfa.WrongCode, Recovery: true}: "This recovery code",
		{Reason: mfa.Replayed}:                  "wait for the next one",
		{Reason: mfa.Replayed, Recovery: true}:  "This recovery code was used already",
		{Reason: mfa.Locked}:                    "or use a recovery code",
		{Reason: mfa.Locked, Recovery: true}:    "or use a code of your app",

		{Reason: mfa.ClockOff, Ahead: 90 * time.Second}:  "about 2 minutes fast",
		{Reason: mfa.ClockOff, Ahead: -60 * time.Second}: "about 1 minute slow",
		{Reason: mfa.ClockOff, Ahead: -10 * time.Minute}: "about 10 minutes slow",
	} {
		if got := responseTo(&refusal).message; !strings.Contains(got, want) {
			t.Errorf("%+v: %q; want %q in it", refusal, got, want)
		}
	}
}

func TestErrors_TellClientsNothingOfFaults(t *testing.T) {
	for name, operation := range map[string]operationFunc{
		"error": func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
			return nil, errors.New("hunter2 at db.internal")
		},
		"panic":       func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) { panic("hunter2 at db.internal") },
		"no response": func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestAPI(t, withOperation(operation))
			a.coverage = &coverage // the real operation has no fault
			a.use(handlerTransport{a.handler})
			got := a.post(asUser(t, "ada"))
			if got.status != http.StatusInternalServerError || got.body != `{"error":"Something went wrong on our side."}`+"\n" {
				t.Errorf("%d %s; want 500 and nothing of the cause", got.status, got.body)
			}
			line := a.line()
			text, _ := line["error"].(string)
			want := map[string]string{"error": "hunter2 at db.internal", "panic": "panic: hunter2 at db.internal\n", "no response": errNoResponse.Error()}[name]
			if line["level"] != "ERROR" || !strings.HasPrefix(text, want) {
				t.Errorf("log line %v; want ERROR and %s", line, want)
			}
			if stacks := regexp.MustCompile(`goroutine \d+ \[`).FindAllString(text, -1); name == "panic" && len(stacks) != 1 {
				t.Errorf("the log has the stacks %q; want the request's alone", stacks)
			}
		})
	}
}

func TestErrors_UnavailableStore(t *testing.T) {
	a := newTestAPI(t)
	key := a.newAPIKey("ada")
	a.backend.fails = fmt.Errorf("%w: connection refused", store.ErrUnavailable)
	for name, header := range map[string]http.Header{"in the look-up of an API key": withKey(key), "in the operation": asUser(t, "ada")} {
		got := a.post(header)
		const want = `{"error":"The service is temporarily unavailable; please try again."}` + "\n"
		if got.status != http.StatusServiceUnavailable || got.body != want || got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s, Retry-After %q; want 503, 1", name, got.status, got.body, got.header.Get("Retry-After"))
		}
		if line := a.line(); line["level"] != "WARN" || !strings.HasSuffix(fmt.Sprint(line["error"]), "connection refused") {
			t.Errorf("%s: log line %v; want WARN and the error", name, line)
		}
	}
}

// brokenResponse fails after it has begun.
type brokenResponse struct{ fail func() error }

// VisitGenerateTOTPKeyResponse implements gen.GenerateTOTPKeyResponseObject.
func (r brokenResponse) VisitGenerateTOTPKeyResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Totp-Key-Expires-In", "1")
	_, err := io.WriteString(w, `{"data":{}}`)
	return errors.Join(err, r.fail())
}

func TestWriteError_AddsNothingToAResponseThatHasBegun(t *testing.T) {
	for _, row := range []struct {
		fail  func() error
		level string
		cause any
	}{
		{func() error { return errors.New("too late") }, "INFO", "response_cut_off"},
		{func() error { panic("too late") }, "ERROR", nil},
	} {
		a := newTestAPI(t, withOperation(func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) { return brokenResponse{row.fail}, nil }))
		if got := a.post(asUser(t, "ada")); got.status != http.StatusOK || got.body != `{"data":{}}` {
			t.Errorf("%d %s; want what was written first", got.status, got.body)
		}
		line := a.line()
		if text, _ := line["error"].(string); line["level"] != row.level || line["cause"] != row.cause || !strings.Contains(text, "too late") {
			t.Errorf("log line %v; want %s, cause %v and the error", line, row.level, row.cause)
		}
	}
}

// TestCheck_BoundsStoreCalls demands that a call spends less than half a second on the store.
func TestCheck_BoundsStoreCalls(t *testing.T) {
	var operation time.Duration
	a := newTestAPI(t, withOperation(func(ctx context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		deadline, _ := ctx.Deadline()
		operation = time.Until(deadline)
		return gen.GenerateTOTPKey200JSONResponse{}, nil
	}))
	if got := a.post(asUser(t, "ada")); got.status != http.StatusOK || operation <= 0 || operation > operationTimeout {
		t.Errorf("%d, %v for the operation; want at most %v", got.status, operation, operationTimeout)
	}
	if total := AuthenticateTimeout + operationTimeout; total >= 500*time.Millisecond {
		t.Errorf("look-up and operation together may take %v", total)
	}
}
