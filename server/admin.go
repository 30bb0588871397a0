package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// readinessCheck is one thing that the service needs in order to serve. check
// returns promptly once its context is done.
type readinessCheck struct {
	name  string
	check func(context.Context) error
}

// readinessTime bounds all checks of one request together.
const readinessTime = 500 * time.Millisecond

// newAdmin returns the handler of the admin listener, which is not for clients:
//
//	/livez         200: the process answers; if it does not, restart it
//	/readyz        200 or 503: send it requests, or not, and the state of each check
//	/openapi.json  200: the document of what the API listener serves
func newAdmin(checks []readinessCheck, document json.RawMessage) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readinessTime)
		defer cancel()
		status, states := http.StatusOK, map[string]string{}
		for _, c := range checks {
			states[c.name] = "ok"
			if err := c.check(ctx); err != nil {
				status, states[c.name] = http.StatusServiceUnavailable, err.Error()
			}
		}
		writeJSON(w, status, states)
	})
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, document)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A failed write means that the client is gone.
	_ = json.NewEncoder(w).Encode(value)
}
