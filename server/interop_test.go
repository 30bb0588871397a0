//go:build interop

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/store/storetest"
)

// hardAccounts are issuers and labels that a URL, or an app that reads it, could get wrong.
var hardAccounts = []struct {
	issuer, label string
	account       string // the label in apps of a token whose sub is label; empty: its e-mail is label
}{
	{"quiva.ai", "user@example.com", ""},
	{"quiva.ai", "user+tag@example.com", ""},
	{"quiva.ai", "a&digits=8", ""},
	{"quiva.ai", "a=b&secret=AAAA#c?d/e//f", ""},
	{"quiva.ai", "100%", ""},
	{"quiva.ai", "a%3Ab%41", ""},
	{"quiva.ai", "urn:user:7", "urn_user_7"},
	{"quiva.ai", " two  spaces ", ""},
	{"quiva.ai", `"quoted" 'too' <b>\;,~`, ""},
	{"quiva.ai", "👩‍👩‍👧‍👦@example.com", "👩_👩_👧_👦@example.com"},
	{"quiva.ai", "مرحبا@مثال.example", ""},
	{"quiva.ai", "\u202eevil", "_evil"},
	{"quiva.ai", "cafe\u0301 is not café", ""},
	{"quiva.ai", "line\nbreak\ttab", "line_break_tab"},
	{"quiva.ai", strings.Repeat("x", 255), strings.Repeat("x", 254)},
	{"quiva.ai", strings.Repeat("語", 85), strings.Repeat("語", 28)},
	{"AT&T", "user@example.com", ""},
	{"A&digits=8", "user@example.com", ""},
	{"A+B", "a+b", ""},
	{"Ü ber", "ü ber", ""},
	{"100%", "100%", ""},
	{"a/b?c#d=e@f", "user@example.com", ""},
	{strings.Repeat("&", 32), strings.Repeat("&", 255), strings.Repeat("&", 84)},
}

// reading is the content of an otpauth URL according to one program.
type reading struct {
	Issuer  string `json:"issuer"`
	Account string `json:"account"`
	Secret  string `json:"secret"`
	Code    string `json:"code"`
}

// fixed is the time of the codes, for programs that can be told one.
var fixed = time.Unix(1234567890, 0)

// Programs that share no code with ours read the URLs of the responses:
//
//	zbarimg          the whole URL, from a QR code, byte for byte
//	otpauth, otplib  issuer, account, secret and the code at a given time
//	oathtool         the code at a given time, from the secret
//	keepassxc-cli    the whole URL and the present code
func TestInterop_AuthenticatorsReadTheURL(t *testing.T) {
	redis := storetest.SharedRedis(t)
	var urls []string
	var want []reading
	for i, c := range hardAccounts {
		s := startInstance(t, testEnviron(redis, "MFA_ISSUER="+c.issuer))
		claims := goodClaims(fmt.Sprintf("u%d", i), jwt.MapClaims{"email": c.label})
		if c.account != "" {
			claims = goodClaims(c.label, jwt.MapClaims{"email": nil})
		}
		key, _ := s.generate(bearer(newToken(t, claims)))
		account := c.account
		if account == "" {
			account = c.label
		}
		urls = append(urls, key.OTPAuthURL)
		want = append(want, reading{c.issuer, account, key.Secret, codeAt(t, key.Secret, fixed)})
	}
	t.Run("zbarimg", func(t *testing.T) { zbarimg(t, urls) })
	t.Run("npm", func(t *testing.T) { npm(t, urls, want) })
	t.Run("oathtool", func(t *testing.T) { oathtool(t, want) })
	t.Run("keepassxc-cli", func(t *testing.T) { keepassxc(t, urls, want) })
}

// zbarimg reads a QR code of every URL byte for byte. Sometimes zbarimg finds no code in a
// picture, and gets a larger one.
func zbarimg(t *testing.T, urls []string) {
	file := filepath.Join(t.TempDir(), "code.png")
	for _, url := range urls {
		key, err := otp.NewKeyFromURL(url)
		if err != nil {
			t.Fatal(err)
		}
		read := ""
		for _, size := range []int{400, 600, 800} {
			image, err := key.Image(size, size)
			if err != nil {
				t.Fatal(err)
			}
			var picture bytes.Buffer
			if err := errors.Join(png.Encode(&picture, image), os.WriteFile(file, picture.Bytes(), 0o600)); err != nil {
				t.Fatal(err)
			}
			// Without a code in the picture it prints nothing and its exit status is 4.
			output, err := exec.CommandContext(t.Context(), "zbarimg", "--quiet", "--raw", file).Output()
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 4) {
				t.Fatal(err)
			}
			if read = string(output); read != "" {
				break
			}
		}
		if diff := cmp.Diff(url+"\n", read); diff != "" {
			t.Error("(-URL +read)", diff)
		}
	}
}

// npm has the libraries of package-lock.json read the URLs.
func npm(t *testing.T, urls []string, want []reading) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/interop")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci")
	install.Dir = dir
	printed(t, install, "")
	read := exec.CommandContext(t.Context(), "node", "read.mjs", strconv.FormatInt(fixed.Unix(), 10))
	read.Dir = dir
	var got map[string][]reading
	if err := json.Unmarshal([]byte(printed(t, read, strings.Join(urls, "\n"))), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]reading{"otpauth": want, "otplib": want}, got); diff != "" {
		t.Error("(-want +read)", diff)
	}
}

func oathtool(t *testing.T, want []reading) {
	for _, w := range want {
		command := exec.CommandContext(t.Context(), "oathtool", "--totp", "--base32",
			"--now", fixed.UTC().Format("2006-01-02 15:04:05 UTC"), w.Secret)
		if got := printed(t, command, ""); got != w.Code+"\n" {
			t.Errorf("%s / %s: code %s; want %s", w.Issuer, w.Account, got, w.Code)
		}
	}
}

// keepassxc imports the URLs into a new database with a key file.
func keepassxc(t *testing.T, urls []string, want []reading) {
	t.Chdir(t.TempDir())
	var database strings.Builder
	database.WriteString("<KeePassFile><Root><Group>")
	for i, url := range urls {
		fmt.Fprintf(&database, "<Entry><String><Key>Title</Key><Value>%d</Value></String><String><Key>otp</Key><Value>", i)
		if err := xml.EscapeText(&database, []byte(url)); err != nil {
			t.Fatal(err)
		}
		database.WriteString("</Value></String></Entry>")
	}
	database.WriteString("</Group></Root></KeePassFile>")
	if err := os.WriteFile("export.xml", []byte(database.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	keepassxc := func(arguments ...string) string {
		return printed(t, exec.CommandContext(t.Context(), "keepassxc-cli", arguments...), "")
	}
	keepassxc("import", "--quiet", "--set-key-file", "key", "--decryption-time", "100", "export.xml", "keys.kdbx")
	for i, url := range urls {
		before := codeAt(t, want[i].Secret, time.Now())
		got := keepassxc("show", "--quiet", "--no-password", "--key-file", "key",
			"--show-protected", "--attributes", "otp", "--totp", "keys.kdbx", strconv.Itoa(i))
		after := codeAt(t, want[i].Secret, time.Now())
		if got != url+"\n"+before+"\n" && got != url+"\n"+after+"\n" {
			t.Errorf("URL and code are %s; want %s and %s or %s", got, url, before, after)
		}
	}
}

func codeAt(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// replaceEach replaces each placeholder, which must be in the text exactly once.
func replaceEach(t *testing.T, text string, values map[string]string) string {
	t.Helper()
	for placeholder, value := range values {
		if n := strings.Count(text, placeholder); n != 1 {
			t.Fatalf("%s is in the file %d times; want once:\n%s", placeholder, n, text)
		}
		text = strings.Replace(text, placeholder, value, 1)
	}
	return text
}

// printed runs a program that must succeed and returns its standard output.
func printed(t *testing.T, program *exec.Cmd, input string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	program.Stdin, program.Stdout, program.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := program.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", program, err, &stdout, &stderr)
	}
	return stdout.String()
}

// background runs a program until the test ends and returns its output.
func background(t *testing.T, name string, args ...string) *output {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	program, log := exec.CommandContext(ctx, name, args...), &output{}
	program.Stdout, program.Stderr = log, log
	program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
	program.WaitDelay = 10 * time.Second
	if err := program.Start(); err != nil {
		cancel()
		t.Fatalf("%v: run the tests with `make interop`, which installs it", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = program.Wait() // a signal ended it
		if t.Failed() {
			t.Log(log)
		}
	})
	return log
}
