package lifecycle

import (
	"encoding/json"
	"net/http"
)

// MaxAdminConnections is the limit of the admin listener. It has few clients, and they must not
// use up the files that the API's connections need.
const MaxAdminConnections = 64

// NewAdmin returns the handler of the admin listener, which is for operators:
//
//	/livez         200: the process answers; restart it if it does not
//	/readyz        200: send it requests, 503: do not; with the state of each check
//	/metrics       200: for Prometheus
//	/openapi.json  200: the OpenAPI document of the API
func NewAdmin(ready *Readiness, document json.RawMessage, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		ok, states := ready.run(r.Context())
		if !ok {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, states)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ready.run(r.Context()) // for Readiness.Value: nobody may be asking /readyz
		metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, document)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a failed write means that the client is gone
}
