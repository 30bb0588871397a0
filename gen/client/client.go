// Package client calls the multi-factor endpoint of the quiva.ai gateway. It is
// generated from the OpenAPI document that the service itself is generated from, and
// has the same types; it needs neither the service's packages nor its router.
//
// A caller adds its credential to every request with [WithRequestEditorFn]: a bearer
// token in Authorization, or an API key in X-Api-Key. The methods of
// [ClientWithResponses] read the answer. Its field JSON200 has the key and Headers200
// the seconds that it stays pending; on a refusal both are nil, and the field of the
// status says in one sentence why. After a 503 the same call may be sent again once
// Headers503.RetryAfter seconds have passed: it returns the key that is pending, if
// there is one. XRequestID, which every answer has, is what to report a fault with.
//
// Give it an [http.Client] with a timeout ([WithHTTPClient]); the default has none.
package client
