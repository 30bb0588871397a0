package apitest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// Coverage is the set of statuses and headers that responses in tests had. The zero value is
// ready to use. It is safe for concurrent use.
type Coverage struct {
	mu    sync.Mutex
	parts map[part]bool
}

// part is a status of an operation, or a header of that status.
type part struct{ operation, status, header string }

// String implements fmt.Stringer.
func (p part) String() string {
	return strings.TrimSpace(p.operation + " " + p.status + " " + p.header)
}

func (c *Coverage) add(operation string, response *http.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts == nil {
		c.parts = map[part]bool{}
	}
	status := strconv.Itoa(response.StatusCode)
	c.parts[part{operation, status, ""}] = true
	for header := range response.Header {
		c.parts[part{operation, status, header}] = true
	}
}

// Missing returns a line for each status and header that document declares and no response
// had.
func (c *Coverage) Missing(document *openapi3.T) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for _, p := range declaredParts(document) {
		if !c.parts[p] {
			missing = append(missing, fmt.Sprintf("%s is declared, and no test produced it", p))
		}
	}
	slices.Sort(missing)
	return missing
}

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
