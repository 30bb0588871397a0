package api

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"
)

var errMismatch = errors.New("OpenAPI document and code disagree; run make generate and follow the build")

// routeKey is how Echo tells routes apart.
type routeKey struct{ method, path string }

// matchOperations pairs each route with its operation. A route without an operation is an
// error: it would be served unchecked. So is an operation without a route, and an operation
// that demands other credentials than package auth checks.
func matchOperations(document *openapi3.T, routes []*echo.Route) (map[routeKey]*routers.Route, error) {
	operations := map[routeKey]*routers.Route{}
	var unknown []string
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if !hasKnownSecurity(document, operation) {
				unknown = append(unknown, operation.OperationID)
			}
			operations[routeKey{method, echoPath(path)}] = &routers.Route{
				Spec: document, Path: path, PathItem: item, Method: method, Operation: operation,
			}
		}
	}
	if unknown != nil {
		slices.Sort(unknown)
		return nil, fmt.Errorf("%w: these operations demand other credentials than bearerAuth or apiKeyAuth: %s", errMismatch, strings.Join(unknown, ", "))
	}
	matched := map[routeKey]*routers.Route{}
	for _, route := range routes {
		key := routeKey{route.Method, route.Path}
		if operations[key] == nil {
			return nil, fmt.Errorf("%w: route %s %s has no operation", errMismatch, route.Method, route.Path)
		}
		matched[key] = operations[key]
	}
	for key, operation := range operations {
		if matched[key] == nil {
			return nil, fmt.Errorf("%w: operation %s has no route", errMismatch, operation.Operation.OperationID)
		}
	}
	return matched, nil
}

var pathParameter = regexp.MustCompile(`\{([^}]*)\}`)

// echoPath writes a path of the document as Echo does: :id for {id}.
func echoPath(path string) string { return pathParameter.ReplaceAllString(path, ":$1") }

// hasKnownSecurity tells whether the operation demands what every operation here gets: a
// bearer token or the X-Api-Key header, and no third way. An operation that is open to all,
// or takes only one of the two, needs code first.
func hasKnownSecurity(document *openapi3.T, operation *openapi3.Operation) bool {
	security := document.Security
	if operation.Security != nil {
		security = *operation.Security
	}
	var token, key int
	for _, requirement := range security {
		for name, scopes := range requirement {
			if document.Components == nil || document.Components.SecuritySchemes[name] == nil || len(scopes) > 0 || len(requirement) > 1 {
				return false
			}
			switch s := document.Components.SecuritySchemes[name].Value; {
			case s.Type == "http" && strings.EqualFold(s.Scheme, "bearer"):
				token++
			case s.Type == "apiKey" && s.In == "header" && strings.EqualFold(s.Name, "X-Api-Key"):
				key++
			}
		}
	}
	return len(security) == 2 && token == 1 && key == 1
}
