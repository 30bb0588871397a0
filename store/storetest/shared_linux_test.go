package storetest_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

// The child process prints the address of its server and waits to be killed.
func TestSharedRedis_EndsWithAKilledTestBinary(t *testing.T) {
	if os.Getenv("STORETEST_CHILD") != "" {
		fmt.Fprintln(os.Stdout, "ADDR", storetest.SharedRedis(t).Addr)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	cmd := child(t, t.Name(), "STORETEST_CHILD=1", "TMPDIR="+t.TempDir()) // A killed process leaves its directory.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	if _, err := fmt.Fscanf(stdout, "ADDR %s\n", &addr); err != nil {
		t.Fatal(err)
	}
	if !accepts(addr) {
		t.Fatalf("the server at %s does not accept connections", addr)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	storetest.Eventually(t, func() bool { return !accepts(addr) })
}

func accepts(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
