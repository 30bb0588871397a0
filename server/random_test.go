package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// credential fills one header field; account is the one that it proves, if any.
type credential struct {
	name    string
	values  []string
	account string
}

// call is a request, and the account that it is made for, if any.
type call struct {
	method, path string
	header       http.Header
	body         string
	chunked      bool
	credentials  string
	account      string
}

func (c call) String() string {
	return fmt.Sprintf("%s %q, %s, %d bytes of body (chunked: %t), %q", c.method, c.path, c.credentials, len(c.body), c.chunked, c.header)
}

// want is the status that the rules have for the call.
func (c call) want(document *openapi3.T) int {
	path, _, _ := strings.Cut(c.path, "?")
	item := document.Paths.Value(path)
	switch {
	case item == nil:
		return http.StatusNotFound
	case item.Operations()[c.method] == nil:
		return http.StatusMethodNotAllowed
	case c.account == "":
		return http.StatusUnauthorized
	case len(c.body) > maxBody:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusOK
}

// driver sends random calls to a service and collects what is wrong with the answers.
type driver struct {
	testing.TB // of the test; Error and Errorf collect instead
	service    *service
	document   *openapi3.T
	calls      *rapid.Generator[[]call]
	secrets    map[string]string // the pending key of each account
	faults     []string
}

func (d *driver) Error(args ...any) { d.faults = append(d.faults, fmt.Sprint(args...)) }
func (d *driver) Errorf(format string, args ...any) {
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

func newDriver(t *testing.T) *driver {
	t.Helper()
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	revoked := s.newAPIKey("ada")
	revokeOnlyKey(t, s)
	d := &driver{TB: t, service: s, document: spec(t), secrets: map[string]string{}}
	keys := []credential{
		{"revoked key", []string{revoked}, ""}, {"unknown key", []string{auth.NewAPIKey()}, ""}, {"empty key", []string{""}, ""},
	}
	tokens := []credential{
		{"other scheme", []string{"Basic YTpi"}, ""}, {"empty authorization", []string{""}, ""},
	}
	for _, account := range []string{"ada", "bob"} {
		key, token := s.newAPIKey(account), newToken(t, goodClaims(account, nil))
		expired := newToken(t, goodClaims(account, jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}))
		pending, _ := s.generate(withKey(key))
		d.secrets[account] = pending.Secret
		keys = append(keys, credential{account + "'s key", []string{key}, account}, credential{account + "'s key", []string{key}, account},
			credential{"mangled key", []string{typo(key)}, ""}, credential{"two keys", []string{key, key}, ""}, credential{"token as key", []string{token}, ""})
		tokens = append(tokens, credential{account + "'s token", []string{"Bearer " + token}, account}, credential{account + "'s token", []string{"bEARER  " + token}, account},
			credential{"expired token", []string{"Bearer " + expired}, ""}, credential{"two tokens", []string{"Bearer " + token, "Bearer " + token}, ""},
			credential{"token without scheme", []string{token}, ""}, credential{"key as token", []string{"Bearer " + key}, ""})
	}
	d.calls = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call { return drawCall(t, d.document, tokens, keys) }), 1, 20)
	s.t = d
	s.client.Transport.(*contract).t = d
	return d
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

// drawCall prefers what is documented and sound, so that every answer comes often.
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
	switch rapid.IntRange(0, 5).Draw(t, "neighbour") {
	case 4:
		c.method = rapid.OneOf(rapid.SampledFrom([]string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE", strings.ToLower(c.method)}),
			rapid.StringMatching(`[A-Z]{3,8}`)).Draw(t, "other method")
		if c.method == http.MethodConnect {
			c.body = "" // net/http's client would send it without framing, as the next request
		}
	case 5:
		c.path = rapid.OneOf(rapid.SampledFrom([]string{
			"/", path + "/", "/" + path, path + "/x", path[:len(path)-1], strings.ToUpper(path), "/." + path, strings.Replace(path, "-", "%2D", 1), path + "%00", path + ";x", "/livez",
		}), rapid.StringMatching(`/[a-z0-9._~!$&'()*+,;=:@/-]{0,40}`)).Draw(t, "other path")
	}
	c.path += rapid.SampledFrom([]string{"", "?", "?account=eve&access_token=x"}).Draw(t, "query")
	sound := rapid.Bool().Draw(t, "only sound credentials")
	token, key := drawCredential(t, "token", tokens, sound), drawCredential(t, "key", keys, sound)
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

// drawCredential draws one of list, garbage, or none at all.
func drawCredential(t *rapid.T, field string, list []credential, sound bool) credential {
	list = append([]credential{{name: "no " + field}, {name: "garbage", values: []string{visible.Draw(t, "garbage")}}}, list...)
	if sound {
		list = slices.DeleteFunc(list, func(c credential) bool { return c.values != nil && c.account == "" })
	}
	return rapid.SampledFrom(list).Draw(t, field)
}

// send returns what is wrong with the answer to c.
func (d *driver) send(c call) []string {
	d.faults = nil
	var body io.Reader = strings.NewReader(c.body) // sized
	if c.chunked {
		body = io.MultiReader(body)
	}
	got := d.service.send(c.method, c.path, c.header, body)
	if want := c.want(d.document); got.status != want {
		d.Errorf("status %d; want %d", got.status, want)
	}
	if got.status == http.StatusOK && (c.account == "" || !strings.Contains(got.body, d.secrets[c.account])) {
		d.Errorf("the answer is not the pending key of %q", c.account)
	}
	return d.faults
}

// TestRandomRequestsGetTheAnswersOfTheDocument sends up to 20 requests in each of
// rapid's checks. On a failure rapid prints the seed and how to run with it again.
func TestRandomRequestsGetTheAnswersOfTheDocument(t *testing.T) {
	d := newDriver(t)
	statuses := map[int]int{}
	rapid.Check(t, func(t *rapid.T) {
		for _, c := range d.calls.Draw(t, "calls") {
			statuses[c.want(d.document)]++
			if faults := d.send(c); faults != nil {
				t.Fatalf("%v: %s", c, strings.Join(faults, "\n"))
			}
		}
	})
	t.Logf("answers by status: %v", statuses)
	for _, status := range []int{200, 401, 404, 405, 413} {
		if statuses[status] == 0 {
			t.Errorf("no request was for a %d", status)
		}
	}
}
