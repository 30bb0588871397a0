//go:build bench

package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
)

// abuse is what clients do who mean no good, each on a connection of its own.
type abuse struct {
	name        string
	clients     int
	every       time.Duration // a client's next attempt
	attempt     func(c *connection, credential string) error
	got         []string // what the service does about it
	connections float64  // that the service has then, the good callers' among them; 0: now more, now fewer
	memory      float64  // KiB that each of them may cost
	slower      float64  // good callers may be so many times
}

const (
	second      = time.Second
	closed      = "closed"            // without an answer
	maxOpen     = 16384               // MFA_MAX_CONNECTIONS
	perIdle     = 40                  // KiB: net/http's two buffers, a stack, and as much again that is not collected yet
	perHeader   = perIdle + 2*(16+12) // KiB: and a header's buffer with those before that it has grown from, likewise
	noEnd       = math.MaxInt
	chunked     = "Transfer-Encoding: chunked\r\n"
	requestLine = "POST /accounts/generate-totp-key HTTP/1.1\r\nHost: mfa.test\r\n"
)

func abuses() []abuse {
	return []abuse{
		{"slow headers", 5000, 5 * second, slowHeader(0), []string{closed}, 0, perIdle, maxSlower},
		{"slow headers of 15 KiB", 5000, 5 * second, slowHeader(15 << 10), []string{closed}, 0, perHeader, maxSlower},
		{"slow bodies", 2000, 2 * second, authentic("Content-Length: 1000\r\n"), []string{"200"}, 0, perIdle, maxSlower},
		{"slow bodies of strangers", 2000, 2 * second, strange("Content-Length: 1000\r\n"), []string{"401"}, 0, perIdle, maxSlower},
		{"idle connections", 10_000, 5 * second, idle, nil, 10_000 + goodCallers, perIdle, maxSlower},
		{"too many connections", 20_000, 5 * second, idle, []string{closed}, maxOpen, perIdle, maxSlower},
		{"headers of 16 KiB", 50, second / 20, strange(manyFields(16 << 10)), []string{"401"}, 0, perHeader, maxSlower},
		{"headers of 32 KiB", 50, second / 20, strange(manyFields(32 << 10)), []string{"431"}, 0, perHeader, maxSlower},
		{"bodies of 10 MiB", 50, second / 2, body("Content-Length: 10485760\r\n", strings.Repeat("x", 64<<10), noEnd), []string{"413"}, 0, perIdle, maxSlower},
		{"endless bodies", 50, second / 2, body(chunked, "10000\r\n"+strings.Repeat("x", 64<<10)+"\r\n", noEnd), []string{"413"}, 0, perIdle, maxSlower},
		{"bodies of strangers in chunks of a byte", 50, second / 10, unknown(body(chunked, strings.Repeat("1\r\nx\r\n", 40_000), 1)), []string{"401"}, 0, 50 * perIdle, maxSlower}, // 10 a second, 5 s each
		{"bad tokens", 50, second / 20, strange("Authorization: Bearer e30.e30.e30\r\n"), []string{"401"}, 0, perIdle, maxSlower},
		{"headers of 8 KiB without a pause", 50, 0, strange(manyFields(8 << 10)), []string{"401"}, 0, perHeader, maxSlower},
		{"headers of 16 KiB without a pause", 50, 0, strange(manyFields(16 << 10)), []string{"401"}, 0, perHeader, maxSlower},
		{"a field of 8 KiB without a pause", 50, 0, strange("Cookie: " + strings.Repeat("x", 8<<10) + "\r\n"), []string{"401"}, 0, perHeader, maxSlower},
		{"70 fields without a pause", 50, 0, strange(manyFields(2 << 10)), []string{"401"}, 0, perHeader, maxSlower},
		{"1000 fields in 4 KiB without a pause", 50, 0, strange(strings.Repeat("a:\r\n", 1000)), []string{"401"}, 0, perHeader, maxSlower},
	}
}

// slowHeader begins with a field of some size and sends one more byte of it a second.
func slowHeader(size int) func(*connection, string) error {
	beginning := requestLine + "X-Slow: " + strings.Repeat("x", size)
	return func(c *connection, _ string) error {
		_, err := io.WriteString(c, beginning)
		for err == nil {
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			if _, err := c.answers.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
				return c.SetReadDeadline(time.Time{})
			}
			_, err = io.WriteString(c, "x")
		}
		return err
	}
}

func authentic(fields string) func(*connection, string) error {
	return func(c *connection, credential string) error {
		_, err := io.WriteString(c, requestLine+fields+credential+"\r\n")
		return err
	}
}

// unknown is an attempt without a credential.
func unknown(attempt func(*connection, string) error) func(*connection, string) error {
	return func(c *connection, _ string) error { return attempt(c, "") }
}

func strange(fields string) func(*connection, string) error { return unknown(authentic(fields)) }

// idle makes one call, which is refused, and then keeps silent.
func idle(c *connection, _ string) error {
	if err := strange("")(c, ""); err != nil {
		return err
	}
	if got, _ := c.outcome(); got != "401" {
		return fmt.Errorf("%w: %s", errWrongAnswer, got)
	}
	_, err := c.answers.Peek(1)
	return err
}

func manyFields(size int) string {
	const field = "X-Many: 0123456789abcdefghij\r\n"
	return strings.Repeat(field, size/len(field))
}

// body sends this piece of a body so often, or until the connection is closed.
func body(field, piece string, times int) func(*connection, string) error {
	return func(c *connection, credential string) error {
		err := authentic(field)(c, credential)
		go func() {
			var err error
			for i := 0; i < times && err == nil; i++ {
				_, err = io.WriteString(c, piece)
			}
		}()
		return err
	}
}
