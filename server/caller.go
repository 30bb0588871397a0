package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"quiva.ai/mfa/gen"
)

const (
	callTimeout     = 10 * time.Second
	maxCallResponse = 64 << 10
)

// caller calls the API of a running service as its clients do. It uses no proxy and follows no
// redirect: those would get the credentials.
type caller struct {
	url    string // without a slash at its end
	client *http.Client
}

func newCaller(url string) *caller {
	return &caller{url, &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       callTimeout,
	}}
}

// refusedCall is a response other than 200.
type refusedCall struct {
	status    int
	requestID string
	body      gen.Error // empty if the body is not the API's
}

// Error implements error. It quotes text of the response, which may come from another server.
func (e *refusedCall) Error() string {
	text := fmt.Sprintf("status %d", e.status)
	if e.body.Error != "" {
		text += fmt.Sprintf(": %q", e.body.Error)
	}
	if e.requestID != "" {
		text += fmt.Sprintf(" (request id %q)", e.requestID)
	}
	return text
}

var errNotOurs = errors.New("the response has status 200, but not the body of this API")

// callAPI makes a call and returns the data of the 200. body may be nil. Any other response is a
// *refusedCall. No error has a credential, a code or a secret.
func callAPI[T any](ctx context.Context, c *caller, method, path string, header http.Header, body any) (data T, err error) {
	encoded := []byte{}
	if body != nil {
		header = header.Clone()
		header.Set("Content-Type", "application/json")
		if encoded, err = json.Marshal(body); err != nil {
			return data, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(encoded))
	if err != nil {
		return data, err
	}
	request.Header = header
	response, err := c.client.Do(request)
	if err != nil {
		return data, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxCallResponse))
	if err != nil {
		return data, fmt.Errorf("read the response: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		refused := &refusedCall{status: response.StatusCode, requestID: response.Header.Get("X-Request-Id")}
		_ = json.Unmarshal(text, &refused.body) // a proxy's body is not JSON
		return data, refused
	}
	var content struct {
		Data    *T
		Message *string
	}
	if json.Unmarshal(text, &content) != nil || content.Data == nil && content.Message == nil {
		return data, errNotOurs
	}
	if content.Data != nil {
		data = *content.Data
	}
	return data, nil
}
