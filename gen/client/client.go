// Package client calls the multi-factor endpoint of the quiva.ai gateway. It is generated
// from the OpenAPI document of the service, and has the same types. It imports no package of
// the service.
//
// Give [NewClientWithResponses] an [http.Client] with a timeout ([WithHTTPClient]): the
// default has none. Add the credential to each request with [WithRequestEditorFn]: a bearer
// token in Authorization, or an API key in X-Api-Key.
//
// The methods of [ClientWithResponses] parse the response. After a 200, JSON200 has the body.
// After an error, JSON200 is nil, and the field of the status has one sentence for a person.
// After a 503, wait for Headers503.RetryAfter seconds and send the same call again. Report a
// fault with its XRequestID, which each response has.
//
// The gateway's sign-in sends a service key in X-Service-Key, and no other credential. It calls
// GetMfaStatusWithResponse after the password, and VerifyMfaCodeWithResponse for the code. The
// example SignIn is the whole sign-in, with what to do on each status. Only JSON200 of a
// [VerifyMfaCodeResponse] means that the code is right: all else keeps the person out. After a
// 503 the code may be used up, so ask for another one.
package client
