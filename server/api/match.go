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

// operationRoute is a route and its operation.
type operationRoute struct {
	*routers.Route
	ofService bool // it takes a service key, and no other credential
}

// matchOperations pairs each route with its operation. A route without an operation is an
// error: it would be served unchecked. So is an operation without a route, and an operation
// that demands other credentials than package auth checks.
func matchOperations(document *openapi3.T, routes []*echo.Route) (map[routeKey]*operationRoute, error) {
	operations := map[routeKey]*operationRoute{}
	var unknown []string
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			schemes := securityOf(document, operation)
			if !slices.Equal(schemes, []string{"apiKeyAuth", "bearerAuth"}) && !slices.Equal(schemes, []string{"serviceKeyAuth"}) {
				unknown = append(unknown, operation.OperationID)
			}
			operations[routeKey{method, echoPath(path)}] = &operationRoute{&routers.Route{
				Spec: document, Path: path, PathItem: item, Method: method, Operation: operation,
			}, len(schemes) == 1}
		}
	}
	if unknown != nil {
		slices.Sort(unknown)
		return nil, fmt.Errorf("%w: these operations demand other credentials than bearerAuth or apiKeyAuth, or serviceKeyAuth alone: %s", errMismatch, strings.Join(unknown, ", "))
	}
	matched := map[routeKey]*operationRoute{}
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

// securityOf returns, sorted, the schemes that the operation takes as alternatives: "bearerAuth"
// for a bearer token, "apiKeyAuth" for X-Api-Key, "serviceKeyAuth" for X-Service-Key, whatever
// the document calls them, and "unknown" for all else. An operation that is open to all, or takes
// only one of the first two, needs code first.
func securityOf(document *openapi3.T, operation *openapi3.Operation) (schemes []string) {
	security := document.Security
	if operation.Security != nil {
		security = *operation.Security
	}
	for _, requirement := range security {
		scheme := "unknown"
		for name, scopes := range requirement {
			if len(requirement) == 1 && len(scopes) == 0 && document.Components != nil && document.Components.SecuritySchemes[name] != nil {
				scheme = knownScheme(document.Components.SecuritySchemes[name].Value)
			}
		}
		schemes = append(schemes, scheme)
	}
	slices.Sort(schemes)
	return schemes
}

func knownScheme(s *openapi3.SecurityScheme) string {
	switch {
	case s.Type == "http" && strings.EqualFold(s.Scheme, "bearer"):
		return "bearerAuth"
	case s.Type == "apiKey" && s.In == "header" && strings.EqualFold(s.Name, "X-Api-Key"):
		return "apiKeyAuth"
	case s.Type == "apiKey" && s.In == "header" && strings.EqualFold(s.Name, "X-Service-Key"):
		return "serviceKeyAuth"
	}
	return "unknown"
}
