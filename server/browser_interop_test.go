//go:build interop

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

// Chromium goes through the page of serve --dev as testdata/browser/page.mjs has it: with the
// keyboard alone, a QR code that zbarimg reads from the screen, and codes of oathtool. SHOTS is a
// folder for pictures of the page, to look at.
func TestInterop_BrowserGoesThroughTheDemoPage(t *testing.T) {
	redis := storetest.StartRedis(t)
	dev := startDev(t, "MFA_REDIS_URL="+redis.URL, localPort)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/browser")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci")
	install.Dir = dir
	printed(t, install, "")
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	shots := os.Getenv("SHOTS")
	if shots != "" {
		if shots, err = filepath.Abs(shots); err != nil {
			t.Fatal(err)
		}
	}
	node := exec.CommandContext(t.Context(), "node", "page.mjs", dev.page, shots)
	node.Dir, node.Env = dir, append(os.Environ(), "CHROMIUM="+browser)
	errors := &output{}
	node.Stderr = errors
	answers, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		request, asks := strings.CutPrefix(lines.Text(), "ask: ")
		if !asks {
			t.Log(lines.Text())
			continue
		}
		fulfil(t, redis, request)
		_, _ = io.WriteString(answers, "done\n") // a node that is gone has said why
	}
	if err := node.Wait(); err != nil {
		t.Errorf("%v\n%s", err, errors)
	}
}

// fulfil does what the browser's script asks for.
func fulfil(t *testing.T, redis *storetest.RedisServer, request string) {
	t.Helper()
	switch request {
	case "stop Redis":
		redis.Stop(t)
	case "continue Redis":
		redis.Continue(t)
	case "expire the key":
		backend, _ := openRedis(redis.URL)
		defer backend.Close()
		if err := backend.Delete(t.Context(), pendingEntry(devAccount)); err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("the script asks for %q", request)
	}
}
