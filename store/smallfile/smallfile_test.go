package smallfile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quiva.ai/mfa/store/smallfile"
	"quiva.ai/mfa/store/storetest"
)

func write(t *testing.T, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "hunter2")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead_ReturnsUpTo1MiB(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 20} {
		want := bytes.Repeat([]byte("x"), size)
		if got, err := smallfile.Read(write(t, want)); !bytes.Equal(got, want) || err != nil {
			t.Errorf("%d bytes of %d, %v", len(got), size, err)
		}
	}
}

// The whole text is compared: it must not show the path.
func TestRead_FailsWithoutShowingThePath(t *testing.T) {
	for path, want := range map[string]string{
		write(t, make([]byte, 1<<20+1)):       "is larger than 1 MiB",
		"/dev/zero":                           "is larger than 1 MiB",
		t.TempDir():                           "is a directory",
		filepath.Join(t.TempDir(), "hunter2"): "no such file or directory",
	} {
		if got, err := smallfile.Read(path); got != nil || err == nil || err.Error() != want {
			t.Errorf("Read %s = %d bytes, %v; want %s", path, len(got), err, want)
		}
	}
}

func TestRead_DoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got, err := smallfile.Read(path); len(got) != 0 || err != nil {
		t.Errorf("Read without a writer = %q, %v; want nothing", got, err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if got, err := smallfile.Read(path); got != nil || err == nil || !strings.HasSuffix(err.Error(), "i/o timeout") {
		t.Errorf("Read with a silent writer = %q, %v; want a timeout", got, err)
	}
	if waited := time.Since(start); waited > 10*time.Second {
		t.Errorf("Read took %v; want about 1 s", waited)
	}
}

func TestKeyPair_ReadsCertificateAndKey(t *testing.T) {
	files := storetest.NewTLSFiles(t)
	pair, err := smallfile.KeyPair(files.Cert, files.Key)
	if err != nil || pair.Leaf == nil || pair.Leaf.Subject.CommonName != "leaf" {
		t.Errorf("KeyPair: %v, leaf %v; want the certificate of leaf", err, pair.Leaf)
	}
	for _, swapped := range [][2]string{{files.Cert, files.Cert}, {files.Key, files.Key}, {"none", files.Key}, {files.Cert, "none"}} {
		if _, err := smallfile.KeyPair(swapped[0], swapped[1]); err == nil {
			t.Errorf("KeyPair of %v succeeded", swapped)
		}
	}
}
