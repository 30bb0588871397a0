// Package client calls the multi-factor endpoint of the quiva.ai gateway. It is generated
// from the OpenAPI document of the service, and has the same types. It imports no package of
// the service.
//
// Give [NewClientWithResponses] an [http.Client] with a timeout ([WithHTTPClient]): the
// default has none. Add the credential to each request with [WithRequestEditorFn]: a bearer
// token in Authorization, or an API key in X-Api-Key.
//
// The methods of [ClientWithResponses] parse the response. After a 200, JSON200 has the TOTP
// key, and Headers200 the seconds until its deadline. After an error, JSON200 is nil, and
// the field of the status has one sentence with the reason. After a 503, wait for
// Headers503.RetryAfter seconds and send the same call again: it returns the pending key, if
// there is one. Report a fault with its XRequestID, which each response has.
package client
