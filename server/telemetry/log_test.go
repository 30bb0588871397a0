package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSanitize_ReplacesControlCharactersAndCuts(t *testing.T) {
	long := strings.Repeat("x", maxLogText)
	for text, want := range map[string]string{
		"":                         "",
		"plain \t\n\x1b":           "plain \t\n\x1b", // slog escapes ASCII control characters
		"~\x7f":                    "~\ufffd",
		"\u0080\u009b\u202e\u2028": "\ufffd\ufffd\ufffd\ufffd",
		"é 日 \U0001f511":           "é 日 \U0001f511",
		"\xff":                     "\ufffd",
		long:                       long,
		long + "y":                 long + " (truncated)",
	} {
		if got := Sanitize(text); got != want {
			t.Errorf("Sanitize(%.20q) = %.20q, %d bytes; want %.20q, %d bytes", text, got, len(got), want, len(want))
		}
	}
}

func TestNewLogger_SanitizesTextsErrorsAndMessages(t *testing.T) {
	const hostile, json, text = "\x1b\u202e", `"\u001b` + "\ufffd" + `"`, `"\x1b` + "\ufffd" + `"`
	for format, want := range map[string]string{
		"json": `{"level":"INFO","msg":` + json + `,"text":` + json + `,"error":` + json + `,"number":7}` + "\n",
		"text": `level=INFO msg=` + text + ` text=` + text + ` error=` + text + " number=7\n",
	} {
		var out bytes.Buffer
		record := slog.NewRecord(time.Time{}, slog.LevelInfo, hostile, 0)
		record.Add("text", hostile, "error", errors.New(hostile), "number", 7)
		if err := NewLogger(&out, slog.LevelInfo, format).Handler().Handle(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("%s: %swant:\n%s", format, got, want)
		}
	}
}

func TestNewLogger_AddsRequestAndKeepsLevel(t *testing.T) {
	ctx := WithRequest(t.Context(), &Request{Address: "192.0.2.7", ID: "id-7"})
	for format, want := range map[string]string{
		"json": `{"time":T,"level":"WARN","msg":"with","a":1,"address":"192.0.2.7","request_id":"id-7"}` + "\n" +
			`{"time":T,"level":"WARN","msg":"without","a":1}` + "\n" +
			`{"time":T,"level":"WARN","msg":"group","a":1,"g":{"address":"192.0.2.7","request_id":"id-7"}}` + "\n",
		"text": "time=T level=WARN msg=with a=1 address=192.0.2.7 request_id=id-7\n" +
			"time=T level=WARN msg=without a=1\n" +
			"time=T level=WARN msg=group a=1 g.address=192.0.2.7 g.request_id=id-7\n",
	} {
		var out bytes.Buffer
		log := NewLogger(&out, slog.LevelWarn, format).With("a", 1)
		log.InfoContext(ctx, "quiet")
		log.WarnContext(ctx, "with")
		log.WarnContext(t.Context(), "without")
		log.WithGroup("g").WarnContext(ctx, "group")
		if got := regexp.MustCompile(`"?\d{4}-\d\d-\d\dT[^", ]+"?`).ReplaceAllString(out.String(), "T"); got != want {
			t.Errorf("%s:\n%swant:\n%s", format, got, want)
		}
	}
}

func TestAudit_SetsEventOfRequest(t *testing.T) {
	Audit(context.Background(), slog.LevelInfo, slog.String("event", "ignored")) // without a request
	request := &Request{}
	ctx := WithRequest(t.Context(), request)
	if request.Event != nil {
		t.Errorf("event %v before Audit; want none", request.Event)
	}
	Audit(ctx, slog.LevelWarn, slog.String("event", "first"))
	event := []slog.Attr{slog.String("event", "issued"), slog.String("account", "ada")}
	Audit(ctx, slog.LevelInfo, event...)
	if !slices.EqualFunc(request.Event, event, slog.Attr.Equal) {
		t.Errorf("event %s; want %s", fmt.Sprint(request.Event), fmt.Sprint(event))
	}
}
