package api

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"
)

// credential is the value of one header field. account is empty if it is not valid.
type credential struct {
	name    string
	values  []string
	account string
}

// call is a request and the account that its credentials prove, if any.
type call struct {
	method, path string
	header       http.Header
	body         string
	chunked      bool
	credentials  string
	account      string
}

// String implements fmt.Stringer.
func (c call) String() string {
	return fmt.Sprintf("%s %q, %s, %d bytes of body (chunked: %t), %q", c.method, c.path, c.credentials, len(c.body), c.chunked, c.header)
}

// want is the status that the call must get; 0: any of a success or a refusal, because the
// operation has an input.
func (c call) want(document *openapi3.T) int {
	path, _, _ := strings.Cut(c.path, "?")
	item := document.Paths.Value(path)
	switch {
	case item == nil:
		return http.StatusNotFound
	case item.Operations()[c.method] == nil:
		return http.StatusMethodNotAllowed
	case c.account == "", strings.HasPrefix(path, "/internal/"): // No call has a service key.
		return http.StatusUnauthorized
	case len(c.body) > maxBody:
		return http.StatusRequestEntityTooLarge
	case path != generatePath:
		return 0
	}
	return http.StatusOK
}

// collector is the testing.TB of the random test's contract. It collects errors for rapid,
// which repeats a failed check.
type collector struct {
	testing.TB
	faults []string
}

// Errorf implements testing.TB.
func (c *collector) Errorf(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

var (
	visible     = rapid.StringMatching(`[!-~]{0,60}`)
	otherFields = rapid.OneOf(rapid.StringMatching(`X-R[A-Za-z0-9_-]{0,12}`), rapid.SampledFrom([]string{
		"Accept", "Accept-Encoding", "Access-Control-Request-Method", "Content-Encoding", "Content-Type", "Cookie", "Forwarded", "If-None-Match",
		"Origin", "Proxy-Authorization", "Range", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-User", "X-Http-Method-Override", "X-Original-Url", "X-Request-Id", "X-User-Id",
	}))
	bodies = rapid.OneOf(
		rapid.SampledFrom([]string{"", "{}", `{"account":"eve"}`, "{", "garbage\x00\xff", strings.Repeat("x", maxBody), strings.Repeat("x", maxBody+1), strings.Repeat("x", 2*maxBody)}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 200), func(b []byte) string { return string(b) }))
)

// drawCall prefers declared paths and valid credentials, so that every status comes often.
func drawCall(t *rapid.T, document *openapi3.T, tokens, keys []credential) call {
	path := rapid.SampledFrom(slices.Sorted(maps.Keys(document.Paths.Map()))).Draw(t, "path")
	methods := slices.Sorted(maps.Keys(document.Paths.Value(path).Operations()))
	c := call{
		path:    path,
		method:  rapid.SampledFrom(methods).Draw(t, "method"),
		header:  rapid.MapOfN(otherFields, rapid.SliceOfN(visible, 1, 2), 0, 4).Draw(t, "header"),
		body:    bodies.Draw(t, "body"),
		chunked: rapid.Bool().Draw(t, "chunked"),
	}
	switch rapid.IntRange(0, 5).Draw(t, "undeclared") {
	case 4:
		c.method = rapid.OneOf(rapid.SampledFrom([]string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE", strings.ToLower(c.method)}),
			rapid.StringMatching(`[A-Z]{3,8}`)).Draw(t, "other method")
		if c.method == http.MethodConnect {
			c.body = "" // net/http's client would send the body without framing, as the next request
		}
	case 5:
		c.path = rapid.OneOf(rapid.SampledFrom([]string{
			"/", path + "/", "/" + path, path + "/x", path[:len(path)-1], strings.ToUpper(path), "/." + path, strings.Replace(path, "-", "%2D", 1), path + "%00", path + ";x", "/livez",
		}), rapid.StringMatching(`/[a-z0-9._~!$&'()*+,;=:@/-]{0,40}`)).Draw(t, "other path")
	}
	c.path += rapid.SampledFrom([]string{"", "?", "?account=eve&access_token=x"}).Draw(t, "query")
	token, key := rapid.SampledFrom(tokens).Draw(t, "token"), rapid.SampledFrom(keys).Draw(t, "key")
	if token.values != nil {
		c.header["Authorization"] = token.values
	}
	if key.values != nil {
		c.header["X-Api-Key"] = key.values
	}
	c.credentials = token.name + ", " + key.name
	switch {
	case token.values == nil:
		c.account = key.account
	case key.values == nil || key.account == token.account:
		c.account = token.account
	}
	return c
}

// newCredentials returns tokens and API keys of ada and bob, with none and garbage among them, and
// the pending secret of each.
func newCredentials(t *testing.T, a *testAPI) (tokens, keys []credential, secrets map[string]string) {
	t.Helper()
	none, garbage := credential{name: "none"}, credential{name: "garbage", values: []string{"Bearer a.b.c"}}
	tokens, keys, secrets = []credential{none, none, garbage}, []credential{none, none, garbage}, map[string]string{}
	for _, account := range []string{"ada", "bob"} {
		key := a.newAPIKey(account)
		secrets[account] = a.pendingSecret(withKey(key))
		keys = append(keys, credential{account + "'s key", []string{key}, account})
		tokens = append(tokens, credential{account + "'s token", []string{"Bearer " + newToken(t, account, nil)}, account})
	}
	return tokens, keys, secrets
}

// TestRandomRequests_GetDeclaredResponses sends up to 20 requests in each check of rapid. On a
// failure rapid prints the seed, and how to run with it again.
func TestRandomRequests_GetDeclaredResponses(t *testing.T) {
	a := newTestAPI(t).listen()
	tokens, keys, secrets := newCredentials(t, a)
	document, collected := spec(t), &collector{TB: t}
	a.t = collected
	a.use(a.transport)
	calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call { return drawCall(t, document, tokens, keys) }), 1, 20)
	statuses := map[int]int{}
	rapid.Check(t, func(t *rapid.T) {
		for _, c := range calls.Draw(t, "calls") {
			want := c.want(document)
			statuses[want]++
			var body io.Reader = strings.NewReader(c.body)
			if c.chunked {
				body = io.MultiReader(body)
			}
			collected.faults = nil
			got := a.send(c.method, c.path, c.header, body)
			if want == 0 && slices.Contains([]int{200, 400, 401, 403}, got.status) {
				want = got.status
			}
			if got.status != want || collected.faults != nil {
				t.Fatalf("%v: status %d; want %d, and no fault: %s", c, got.status, want, strings.Join(collected.faults, "\n"))
			}
			if want == http.StatusOK && strings.HasPrefix(c.path, generatePath) && !strings.Contains(got.body, `"`+secrets[c.account]+`"`) {
				t.Fatalf("%v: the response has not the pending secret of %s", c, c.account)
			}
		}
	})
	for _, status := range []int{0, 200, 401, 404, 405, 413} {
		if statuses[status] == 0 {
			t.Errorf("no request was for a %d", status)
		}
	}
}
