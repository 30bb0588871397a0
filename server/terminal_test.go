package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"quiva.ai/mfa/server/demo"
	"quiva.ai/mfa/store/storetest"
)

// openTerminal opens a terminal of this size. screen collects what programs print on it.
func openTerminal(t *testing.T, columns, rows uint16) (terminal *os.File, screen *output) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	check(err)
	t.Cleanup(func() { control.Close() })
	check(unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	check(err)
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	check(err)
	t.Cleanup(func() { terminal.Close() })
	check(unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}))
	screen = &output{}
	go func() {
		for text := make([]byte, 4096); ; {
			n, err := control.Read(text)
			if err != nil {
				return // the terminal is closed
			}
			_, _ = screen.Write([]byte(strings.ReplaceAll(string(text[:n]), "\r", "")))
		}
	}()
	return terminal, screen
}

// serveDevOn runs `mfa serve --dev` on a terminal until it has printed its calls, and returns the
// screen and the URL of the key that the printed API key gets.
func serveDevOn(t *testing.T, columns, rows uint16) (screen, otpauthURL string) {
	t.Helper()
	terminal, printed := openTerminal(t, columns, rows)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"serve", "--dev"}, []string{localPort}, terminal, &output{}) }()
	defer func() { cancel(); <-ended }()
	var call []string
	storetest.Eventually(t, func() bool {
		text := printed.String()
		for line := range strings.Lines(text) {
			if found := devCallLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); found != nil && call == nil {
				call = found
			}
		}
		return strings.Contains(text, "/internal/verify-mfa-code\n")
	})
	_, _, body := (&devServer{}).send(t, http.MethodPost, call[3], http.Header{call[1]: {call[2]}})
	var key struct {
		Data struct {
			OTPAuthURL string `json:"otpauth_url"`
		}
	}
	if err := json.Unmarshal([]byte(body), &key); err != nil {
		t.Fatal(err, body)
	}
	return printed.String(), key.Data.OTPAuthURL
}

func TestServeDev_PrintsTheQRCodeWhereItFits(t *testing.T) {
	for name, c := range map[string]struct {
		columns, rows uint16
		want          bool
	}{
		"fits":            {49, 25, true},
		"too narrow":      {48, 25, false},
		"too low":         {49, 24, false},
		"of unknown size": {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			screen, url := serveDevOn(t, c.columns, c.rows)
			code, err := demo.NewQRCode(url)
			if err != nil || code.Size() != 49 {
				t.Fatalf("the code has %d modules, %v; want 49", code.Size(), err)
			}
			if got := strings.Contains(screen, code.HalfBlocks()); got != c.want || strings.Contains(screen, "\x1b") != c.want {
				t.Errorf("the QR code is printed: %t; want %t\n%s", got, c.want, screen)
			}
		})
	}
}
