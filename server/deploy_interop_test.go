//go:build interop

package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

const imageUser = 65532 // of the Containerfile

// buildImage builds, in an empty folder, the files of the Containerfile's image. certificates
// replace those that the Containerfile copies.
func buildImage(t *testing.T, certificates []byte) (root string) {
	t.Helper()
	file := readPage(t, containerFile)
	command := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*)$`).FindStringSubmatch(file)
	copied := regexp.MustCompile(`(?m)^COPY --from=build \S+\.crt (\S+)$`).FindStringSubmatch(file)
	if command == nil || copied == nil {
		t.Fatal("the Containerfile builds no program, or copies no certificates")
	}
	root = t.TempDir()
	build := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(command[1], "-o /mfa ", "-o "+root+"/mfa ", 1))
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[1], err, out)
	}
	path := filepath.Join(root, copied[1])
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, certificates, 0o444); err != nil {
		t.Fatal(err)
	}
	// Other users can enter the image, and none but root can write to it.
	for path, mode := range map[string]os.FileMode{filepath.Dir(root): 0o755, root: 0o555} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(root, 0o755) })
	return root
}

// inImage returns a command in the image, run by its user. Users other than root need a user
// namespace for that.
func inImage(t *testing.T, root string, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	program := exec.CommandContext(t.Context(), "/mfa", args...)
	program.Env, program.Dir = environ, "/"
	program.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() == 0 {
		program.SysProcAttr.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser}
	} else {
		program.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		program.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Geteuid(), Size: 1}}
		program.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Getegid(), Size: 1}}
	}
	return program
}

// startListening starts a program that serves, and returns its admin address once it listens.
func startListening(t *testing.T, program *exec.Cmd) (admin string) {
	t.Helper()
	log, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatalf("%v (without root, a chroot needs user namespaces)", err)
	}
	var text strings.Builder
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if found := listeningLine.FindStringSubmatch(lines.Text()); found != nil {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return found[1]
		}
	}
	t.Fatalf("the program ended: %v\n%s", program.Wait(), &text)
	return ""
}

// startJWKSet serves a JWK set over TLS and returns its URL and the certificate as PEM.
func startJWKSet(t *testing.T) (url string, certificate []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // SEC 1, section 2.3.3: 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	set := fmt.Sprintf(`{"keys":[{"kty":"EC","kid":"1","crv":"P-256","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, set) }))
	t.Cleanup(server.Close)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// serveEnviron returns complete settings of serve, with these beside them.
func serveEnviron(more ...string) []string {
	return append([]string{"MFA_LISTEN=127.0.0.1:0", "MFA_ADMIN_LISTEN=127.0.0.1:0", "MFA_DRAIN=0s", "MFA_SEAL_KEYS=" + testSealKeys}, more...)
}

func TestInteropImage_ServesWithNoOtherFiles(t *testing.T) {
	set, certificate := startJWKSet(t)
	root := buildImage(t, certificate)
	environ := serveEnviron("MFA_REDIS_URL="+storetest.StartRedis(t).URL, "MFA_JWT_JWKS="+set, "MFA_JWT_ISSUER=x", "MFA_JWT_AUDIENCE=x")
	id, err := inImage(t, root, environ, "store", "init").Output()
	if err != nil {
		t.Fatalf("store init: %v", err)
	}
	environ = append(environ, "MFA_STORE_ID="+string(id))
	program := inImage(t, root, environ, "serve")
	check := []string{"MFA_ADMIN_LISTEN=" + startListening(t, program)}
	// The instance is ready once it has the JWK set: it finds the certificates.
	storetest.Eventually(t, func() bool { return inImage(t, root, check, "healthcheck", "--ready").Run() == nil })
	status := readPage(t, filepath.Join("/proc", strconv.Itoa(program.Process.Pid), "status"))
	if os.Geteuid() == 0 && !strings.Contains(status, "Uid:\t65532\t65532\t65532\t65532\n") {
		t.Errorf("the process has another user than the Containerfile's:\n%s", status)
	}
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v; want exit status 0", err)
	}
	if inImage(t, root, check, "healthcheck").Run() == nil {
		t.Error("healthcheck of a service that has ended succeeds")
	}
	if files, err := os.ReadDir(root); err != nil || len(files) != 2 {
		t.Errorf("%v, %v in the image; want /etc and /mfa alone", files, err)
	}
}

// The Go runtime handles SIGQUIT as a crash. systemd must see another end than exit status 2,
// which is for faulty settings.
func TestInteropUnit_MakesACrashEndWithSIGABRT(t *testing.T) {
	traceback := regexp.MustCompile(`(?m)^Environment=(GOTRACEBACK=.*)$`).FindStringSubmatch(readPage(t, unitFile))
	if traceback == nil {
		t.Fatalf("%s does not set GOTRACEBACK", unitFile)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) }()
	program := exec.CommandContext(t.Context(), buildImage(t, nil)+"/mfa", "serve")
	program.Env = serveEnviron("MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_STORE_ID=none", traceback[1])
	startListening(t, program)
	if err := program.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err == nil || err.Error() != "signal: aborted" {
		t.Errorf("the end: %v; want SIGABRT", err)
	}
}

func TestInteropUnit_PassesSystemdAnalyze(t *testing.T) {
	program, err := os.Executable() // verify demands that the program exists
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mfa.service")
	unit := strings.Replace(readPage(t, unitFile), "/usr/local/bin/mfa", program, 1)
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify"}, {"security", "--offline=true", "--threshold=15"}} {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", append(args, path)...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %q: %v (Debian has it in the package systemd)\n%s", args, err, out)
		}
	}
}
