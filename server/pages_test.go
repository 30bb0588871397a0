package main

import (
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/config"
)

// The pages and the operators' files, from the folder of this package. Package config compares
// the table of settings in the handbook.
const (
	frontPage      = "../README.md"
	handbook       = "../server/deploy/README.md"
	nginxFile      = "deploy/nginx.conf"
	alertsFile     = "deploy/alerts.yaml"
	prometheusFile = "deploy/prometheus.yaml"
	unitFile       = "deploy/mfa.service"
	containerFile  = "deploy/Containerfile"
)

// readPage returns the text of a page or a file.
func readPage(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// allPages returns the text of every README.md by its path.
func allPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != ".." {
			return fs.SkipDir
		}
		if err == nil && entry.Name() == "README.md" {
			pages[path] = readPage(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages[frontPage] == "" || pages[handbook] == "" {
		t.Errorf("want %s and %s among the pages", frontPage, handbook)
	}
	return pages
}

func TestFrontPage_HasAtMost150Lines(t *testing.T) {
	if lines := strings.Count(readPage(t, frontPage), "\n"); lines > 150 {
		t.Errorf("%s has %d lines", frontPage, lines)
	}
}

func TestPages_LinkToFilesThatExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)(?:#[^)]*)?\)`)
	folder := regexp.MustCompile("(?m)^\\| `([a-z/]+/)` \\|")
	for path, page := range allPages(t) {
		for _, found := range slices.Concat(link.FindAllStringSubmatch(page, -1), folder.FindAllStringSubmatch(page, -1)) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), found[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func TestPages_NameCommandsAndSettingsThatExist(t *testing.T) {
	target := regexp.MustCompile("(?:`|(?m:^    ))make ([a-z]+)")
	command := regexp.MustCompile("(?:`|\\.bin/)mfa ((?:(?:account|apikey|servicekey|store) )?[a-z]+)")
	variable := regexp.MustCompile(`\bMFA_[A-Z_]*[A-Z]\b`)
	makefile := readPage(t, "../Makefile")
	for path, page := range allPages(t) {
		for _, found := range target.FindAllStringSubmatch(page, -1) {
			if !strings.Contains(makefile, "\n"+found[1]+": ") {
				t.Errorf("%s: there is no target for make %s", path, found[1])
			}
		}
		for _, found := range command.FindAllStringSubmatch(page, -1) {
			if help, _, _ := runCommand(t, nil, append(strings.Fields(found[1]), "--help")...); !strings.Contains(help, "Usage:\n  mfa "+found[1]+" ") {
				t.Errorf("%s: there is no command mfa %s", path, found[1])
			}
		}
		for _, name := range variable.FindAllString(page, -1) {
			if _, err := config.Load([]string{name + "="}, nil, nil); err != nil && strings.Contains(err.Error(), "there is no such setting") {
				t.Errorf("%s: there is no setting %s", path, name)
			}
		}
	}
}

// frontPageChapter returns the chapter of the front page about calls.
func frontPageChapter(t *testing.T) string {
	t.Helper()
	_, chapter, found := strings.Cut(readPage(t, frontPage), "\n## Call it\n")
	if !found {
		t.Fatalf("%s has no chapter Call it", frontPage)
	}
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	return chapter
}

func TestFrontPage_ListsEachStatusOfAnError(t *testing.T) {
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	chapter := frontPageChapter(t)
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				if status != "200" && !strings.Contains(chapter, "\n| "+status+" | ") {
					t.Errorf("%s has no row for the %s of %s %s", frontPage, status, method, path)
				}
			}
		}
	}
}

// The calls that enrol and remove a factor stand in one block and work as they stand.
func TestFrontPage_ShowsTheWayOfAFactor(t *testing.T) {
	block := regexp.MustCompile(`(?m)^    url=.*\n(?:    .+\n)+`).FindString(frontPageChapter(t))
	dev := startDev(t, localPort)
	script := strings.ReplaceAll(block, "127.0.0.1:8080", dev.api)
	shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	shell.Env = append(os.Environ(), "API_KEY="+dev.calls[0].value)
	output, err := shell.CombinedOutput()
	want := regexp.MustCompile(`^\{"data":\{"recovery_codes":\[("[0-9A-Z]{4}(-[0-9A-Z]{4}){3}",?){10}\]\}\}
\{"data":\{"passkey_enabled":false,"totp_enabled":true\}\}
\{"message":"The MFA settings are changed\."\}
\{"message":"The TOTP factor is removed\."\}
$`)
	if err != nil || !want.Match(output) {
		t.Errorf("%s\nprints\n%s%v", script, output, err)
	}
}

func TestFrontPage_ShowsCallsAndTheirResponse(t *testing.T) {
	chapter := frontPageChapter(t)
	calls := regexp.MustCompile(`(?m)^    curl -i -X POST -H "([A-Za-z-]+): ([A-Za-z ]*\$[A-Z_]+)" http://127\.0\.0\.1:8080(/\S+)$`).FindAllStringSubmatch(chapter, -1)
	want := regexp.MustCompile(`(?m)^    ((?:HTTP/|[A-Z][A-Za-z-]+: |\{"data":).+)$`).FindAllStringSubmatch(chapter, -1)
	if len(calls) != 2 || len(want) != 7 {
		t.Fatalf("%s has %d calls and a response of %d lines; want 2 and 7", frontPage, len(calls), len(want))
	}
	varying := regexp.MustCompile(`\b[A-Z2-7]{26,32}\b|\d+$`)
	dev := startDev(t, localPort)
	credentials := map[string]string{"API_KEY": dev.calls[0].value, "TOKEN": strings.TrimPrefix(dev.calls[1].value, "Bearer ")}
	bodies := map[string]bool{}
	for _, call := range calls {
		value := os.Expand(call[2], func(name string) string { return credentials[name] })
		status, header, body := dev.send(t, http.MethodPost, "http://"+dev.api+call[3], http.Header{call[1]: {value}})
		got := []string{"HTTP/1.1 " + status, varying.ReplaceAllString(strings.TrimSpace(body), "")}
		for name, values := range header {
			got = append(got, varying.ReplaceAllString(name+": "+values[0], ""))
		}
		for _, line := range want {
			if !slices.Contains(got, varying.ReplaceAllString(line[1], "")) {
				t.Errorf("%s\nreturns\n%s\nwithout a line like %s", call[0], strings.Join(got, "\n"), line[1])
			}
		}
		bodies[body] = true
	}
	if len(bodies) != 1 {
		t.Errorf("the calls return %d keys; want one", len(bodies))
	}
}
