//go:build interop

package main

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/store/storetest"
)

const nobody = 65532 // as the Containerfile has it

// buildImage does in an empty folder what the Containerfile says, with certificates as
// those that it copies.
func buildImage(t *testing.T, certificates []byte) (root string) {
	t.Helper()
	file := readFile(t, "deploy/Containerfile")
	command := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*)$`).FindStringSubmatch(file)
	copied := regexp.MustCompile(`(?m)^COPY --from=build \S+\.crt (\S+)$`).FindStringSubmatch(file)
	for _, line := range []string{"FROM scratch", "COPY --from=build /mfa /mfa", "USER 65532:65532", `ENTRYPOINT ["/mfa"]`, `CMD ["serve"]`} {
		if !strings.Contains(file, "\n"+line+"\n") {
			t.Fatalf("the Containerfile lacks %s", line)
		}
	}
	if command == nil || copied == nil {
		t.Fatal("the Containerfile builds no program, or copies no certificates")
	}
	root = t.TempDir()
	build := exec.Command("sh", "-c", strings.Replace(command[1], "-o /mfa ", "-o "+root+"/mfa ", 1))
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
	// Read-only, for whoever is not root.
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(root, 0o755) })
	return root
}

// inImage is mfa in the image: nothing else is there, and it is nobody. Who is not root
// needs a namespace of their own to call chroot.
func inImage(root string, environ []string, args ...string) *exec.Cmd {
	program := exec.Command("/mfa", args...)
	program.Env, program.Dir = environ, "/"
	program.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() == 0 {
		program.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	} else {
		program.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		program.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
		program.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}}
	}
	return program
}

func TestInteropDeployTheImageServesWithNothingElseAround(t *testing.T) {
	issuer := httptest.NewTLSServer(set(keySet(t, newIssuerKey(t, "1", jwt.SigningMethodES256).member(t, nil))))
	defer issuer.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw})
	root := buildImage(t, authority)
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	environ := testEnviron(storetest.StartRedis(t), "MFA_JWT_JWKS="+issuer.URL)
	s := &service{t: t, log: &output{}}
	program := inImage(root, environ, "serve")
	program.Stderr = s.log
	if err := program.Start(); err != nil {
		t.Fatalf("chroot to the image: %v (without root, it takes user namespaces)", err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = program.Process.Kill()
			_ = program.Wait()
		}
	})
	storetest.Eventually(t, func() bool { return len(s.logLines("listening")) == 1 })
	check := []string{"MFA_ADMIN_LISTEN=" + s.logLines("listening")[0]["admin_address"].(string)}
	// Ready means that the JWK set came, and so that the certificates are where Go looks.
	storetest.Eventually(t, func() bool { return inImage(root, check, "healthcheck", "--ready").Run() == nil })
	status := readFile(t, filepath.Join("/proc", strconv.Itoa(program.Process.Pid), "status"))
	if os.Geteuid() == 0 && !strings.Contains(status, "Uid:\t65532\t65532\t65532\t65532\n") {
		t.Errorf("the process is not the Containerfile's user:\n%s", status)
	}
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := program.Wait()
	ended = true
	if err != nil {
		t.Errorf("the end: %v\n%s", err, s.log)
	}
	if inImage(root, check, "healthcheck").Run() == nil {
		t.Error("healthcheck of a service that has ended succeeds")
	}
	if files, err := os.ReadDir(root); err != nil || len(files) != 2 {
		t.Errorf("%v, %v in the image; want /etc and /mfa alone", files, err)
	}
}

// A crash is restarted, faulty settings are not: systemd must be able to tell them apart.
func TestInteropDeployACrashIsNoUsageError(t *testing.T) {
	unit := readFile(t, "deploy/mfa.service")
	traceback := regexp.MustCompile(`(?m)^Environment=(GOTRACEBACK=.*)$`).FindStringSubmatch(unit)
	if traceback == nil || !strings.Contains(unit, "\nRestart=on-failure\n") || !strings.Contains(unit, fmt.Sprintf("\nRestartPreventExitStatus=%d\n", exitUsage)) || !strings.Contains(unit, "\nLimitCORE=0\n") {
		t.Fatal("the unit does not say what becomes of a crash")
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) }()
	s := startProcess(t, append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1"), traceback[1]))
	s.status = -1             // ended by a signal
	s.signal(syscall.SIGQUIT) // which Go takes for a crash of its own
	if status := s.wait(); status != -1 || !strings.Contains(s.log.String(), "signal: aborted") {
		t.Errorf("exit status %d; want the end by SIGABRT", status)
	}
	s.log = &output{} // what a crash prints is not JSON
}

func TestInteropDeployTheUnitIsSound(t *testing.T) {
	unit := readFile(t, "deploy/mfa.service")
	program, err := os.Executable() // verify demands that the program is there
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mfa.service")
	if err := os.WriteFile(path, []byte(strings.Replace(unit, "/usr/local/bin/mfa", program, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify"}, {"security", "--offline=true", "--threshold=15"}} {
		out, err := exec.Command("systemd-analyze", append(args, path)...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %q: %v (Debian has it in the package systemd)\n%s", args, err, out)
		}
	}
}
