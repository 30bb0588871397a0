package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/lifecycle"
	"quiva.ai/mfa/server/telemetry"
)

// wantLines demands that the file has each of the lines once, and returns its text.
func wantLines(t *testing.T, path string, lines ...string) string {
	t.Helper()
	text := readPage(t, path)
	for _, line := range lines {
		if strings.Count("\n"+text, "\n"+line+"\n") != 1 {
			t.Errorf("%s: want the line %s once", path, line)
		}
	}
	return text
}

// seconds returns the number of seconds that pattern finds in text.
func seconds(t *testing.T, text, pattern string) time.Duration {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no match for %s", pattern)
	}
	d, err := time.ParseDuration(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// systemd restarts the service after a crash, but not when its settings are faulty.
func TestUnit_AgreesWithTheProgram(t *testing.T) {
	unit := wantLines(t, unitFile,
		"Type=notify",
		"ExecStart=/usr/local/bin/mfa serve",
		"Restart=on-failure",
		fmt.Sprint("RestartPreventExitStatus=", exitUsage),
		"Environment=GOTRACEBACK=crash",
		"LimitCORE=0",
	)
	s, err := config.Load(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := lifecycle.StopTime(s.Drain, s.StopTimeout) + telemetry.FlushTimeout
	if limit := seconds(t, unit, `\nTimeoutStopSec=(\S+)\n`); limit <= stop {
		t.Errorf("%s: TimeoutStopSec is %v; a stop takes up to %v", unitFile, limit, stop)
	}
}

func TestUnit_PassesSecretsAsFiles(t *testing.T) {
	unit := readPage(t, unitFile)
	path := t.TempDir() + "/empty"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var environ, want []string
	for _, found := range regexp.MustCompile(`(?m)^LoadCredential=(\w+):/etc/mfa/\w+\nEnvironment=(MFA_\w+)_FILE=%d/(\w+)$`).FindAllStringSubmatch(unit, -1) {
		if found[1] != found[3] {
			t.Errorf("%s: credential %s, but file %s", unitFile, found[1], found[3])
		}
		environ, want = append(environ, found[2]+"_FILE="+path), append(want, found[2]+"_FILE: is empty")
	}
	_, err := config.Load(environ, nil, nil)
	if faults := (config.Faults)(want); len(want) != 3 || err == nil || err.Error() != faults.Error() {
		t.Errorf("%s: %v; want settings that read their files: %v", unitFile, err, faults)
	}
}

func TestContainerfile_AgreesWithTheProgram(t *testing.T) {
	s, err := config.Load(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := wantLines(t, containerFile,
		"FROM scratch",
		"COPY --from=build /mfa /mfa",
		"USER 65532:65532",
		"EXPOSE "+strings.TrimPrefix(string(s.Listen), ":"),
		`ENTRYPOINT ["/mfa"]`,
		`CMD ["serve"]`,
	)
	if limit := seconds(t, file, `\nHEALTHCHECK .*--timeout=(\S+) .*CMD \["/mfa", "healthcheck"\]\n`); limit <= healthCheckTimeout {
		t.Errorf("%s: HEALTHCHECK ends after %v; the command takes up to %v", containerFile, limit, healthCheckTimeout)
	}
	language := regexp.MustCompile(`(?m)^go (1\.\d+)`).FindStringSubmatch(readPage(t, "../go.mod"))
	if !strings.Contains(file, "\nFROM docker.io/library/golang:"+language[1]+".") {
		t.Errorf("%s: want the image of Go %s, as go.mod has it", containerFile, language[1])
	}
}

// Only the gateway's sign-in may call the internal operations.
func TestNginx_ForwardsEachPathButTheInternalOnes(t *testing.T) {
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for path := range document.Paths.Map() {
		if name, public := strings.CutPrefix(path, "/accounts/"); public {
			want = append(want, name)
		} else if !strings.HasPrefix(path, "/internal/") {
			t.Errorf("%s: does %s forward it?", path, nginxFile)
		}
	}
	locations := regexp.MustCompile(`(?m)^    location (.*) \{$`).FindAllStringSubmatch(readPage(t, nginxFile), -1)
	if len(locations) != 2 || locations[1][1] != "/" {
		t.Fatalf("%s has the locations %v; want one for the operations, and / for all else", nginxFile, locations)
	}
	names, _ := strings.CutPrefix(strings.TrimSuffix(locations[0][1], ")$"), "~ ^/accounts/(")
	got := strings.Split(names, "|")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s forwards %v; want %v", nginxFile, got, want)
	}
}
