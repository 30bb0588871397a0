package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/gen"
)

// produced is what the service has answered in all tests. Answers of stub operations
// are not in it, unless their test says why they are.
var produced = &coverage{}

// part is a status of an operation, or a header of it.
type part struct{ operation, status, header string }

func (p part) String() string {
	return strings.TrimSpace(p.operation + " " + p.status + " " + p.header)
}

// coverage has the tests that produced each part of the OpenAPI document.
type coverage struct {
	mu    sync.Mutex
	tests map[part]map[string]bool
}

// add counts an answer of an operation. Subtests count as their test.
func (c *coverage) add(test, operation string, response *http.Response) {
	test, _, _ = strings.Cut(test, "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	headers := slices.Collect(maps.Keys(response.Header))
	for _, header := range append(headers, "") {
		if slices.Contains(undeclaredHeaders, header) {
			continue
		}
		p := part{operation, strconv.Itoa(response.StatusCode), header}
		if c.tests == nil {
			c.tests = map[part]map[string]bool{}
		}
		if c.tests[p] == nil {
			c.tests[p] = map[string]bool{}
		}
		c.tests[p][test] = true
	}
}

// declaredParts returns every part of the document.
func declaredParts(document *openapi3.T) []part {
	var parts []part
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				parts = append(parts, part{operation.OperationID, status, ""})
				for header := range response.Value.Headers {
					parts = append(parts, part{operation.OperationID, status, http.CanonicalHeaderKey(header)})
				}
			}
		}
	}
	return parts
}

// table writes a row for each part that is declared or was produced, and returns
// those of which only one is true.
func (c *coverage) table(w io.Writer, parts []part) (faults []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := slices.Collect(maps.Keys(c.tests))
	for _, p := range parts {
		if c.tests[p] == nil {
			rows = append(rows, p)
			faults = append(faults, p.String()+" is declared, and no test produced it")
		}
	}
	slices.SortFunc(rows, func(a, b part) int { return strings.Compare(a.String(), b.String()) })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OPERATION\tSTATUS\tHEADER\tPRODUCED BY")
	for _, p := range rows {
		note := ""
		if !slices.Contains(parts, p) {
			note = " (NOT DECLARED)"
			faults = append(faults, p.String()+" was produced, and is not declared")
		}
		cells := fmt.Sprintf("%s\t%s\t%s\t", p.operation, p.status, strings.TrimSpace(p.header+note))
		for _, line := range fill(slices.Sorted(maps.Keys(c.tests[p]))) {
			fmt.Fprintln(table, cells+line)
			cells = "\t\t\t"
		}
	}
	if err := table.Flush(); err != nil {
		faults = append(faults, err.Error())
	}
	slices.Sort(faults)
	return faults
}

// fill sets names in lines of at most 100 characters.
func fill(names []string) []string {
	if len(names) == 0 {
		return []string{"NO TEST"}
	}
	lines := names[:1:1]
	for _, name := range names[1:] {
		if last := &lines[len(lines)-1]; len(*last)+len(name) < 100 {
			*last += " " + name
		} else {
			lines = append(lines, name)
		}
	}
	return lines
}

// publish writes what `make test` prints in the end to a file in TEST_TABLES, if that is
// set.
func publish(name, text string) error {
	dir := os.Getenv("TEST_TABLES")
	if dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600)
}

// report writes the table to stdout, and publishes it: go test
// keeps to itself what a package that passes has on stdout. It returns the exit status.
func (c *coverage) report(stdout io.Writer) int {
	document, err := gen.GetSpec()
	if err != nil {
		fmt.Fprintln(stdout, err)
		return 1
	}
	var table strings.Builder
	faults := c.table(&table, declaredParts(document))
	fmt.Fprint(stdout, table.String())
	if err := publish("contract", table.String()); err != nil {
		faults = append(faults, err.Error())
	}
	for _, fault := range faults {
		fmt.Fprintln(stdout, "Contract coverage:", fault)
	}
	return min(len(faults), 1)
}

// everyTestRan tells whether nothing was asked for that leaves tests out.
func everyTestRan() bool {
	return !slices.ContainsFunc([]string{"test.run", "test.skip", "test.list", "test.fuzz"}, func(name string) bool {
		return flag.Lookup(name).Value.String() != ""
	})
}

func TestTheTableHasWhatIsDeclaredAndWhatWasProduced(t *testing.T) {
	c := &coverage{}
	answer := func(test string, status int, headers ...string) {
		header := http.Header{"Date": {"x"}}
		for _, name := range headers {
			header.Set(name, "x")
		}
		c.add(test, "op", &http.Response{StatusCode: status, Header: header})
	}
	answer("TestB/sub", 200, "Left")
	answer("TestA", 200)
	answer("TestB", 418)
	answer("TestB", 503, "X-New")
	answer("TestA", 200)
	var table strings.Builder
	faults := c.table(&table, []part{{"op", "200", ""}, {"op", "200", "Left"}, {"op", "503", ""}, {"op", "503", "Retry-After"}, {"op", "401", ""}})
	const want = `OPERATION  STATUS  HEADER                PRODUCED BY
op         200                           TestA TestB
op         200     Left                  TestB
op         401                           NO TEST
op         418     (NOT DECLARED)        TestB
op         503                           TestB
op         503     Retry-After           NO TEST
op         503     X-New (NOT DECLARED)  TestB
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"op 401 is declared, and no test produced it",
		"op 418 was produced, and is not declared",
		"op 503 Retry-After is declared, and no test produced it",
		"op 503 X-New was produced, and is not declared",
	}, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}
