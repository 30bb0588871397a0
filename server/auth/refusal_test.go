package auth

import "testing"

// Alerts and saved searches depend on these values.
func TestCause_KeepsItsValue(t *testing.T) {
	for cause, want := range map[Cause]string{
		NoCredentials: "no_credentials", SeveralCredentials: "several_credentials", SchemeUnknown: "scheme_unknown",
		AccountsDiffer: "accounts_differ", KeyMalformed: "key_malformed", KeyUnknown: "key_unknown",
		TokenMalformed: "token_malformed", TokenAlgorithm: "token_algorithm", TokenKeyUnknown: "token_key_unknown",
		TokenSignature: "token_signature", TokenExpired: "token_expired", TokenNotYetValid: "token_not_yet_valid",
		TokenIssuer: "token_issuer", TokenAudience: "token_audience", TokenClaimMissing: "token_claim_missing",
		TokenClaimUnexpected: "token_claim_unexpected", TokenHeaderUnexpected: "token_header_unexpected",
		SignInTooOld: "sign_in_too_old", ServiceKeyMisplaced: "service_key_misplaced",
	} {
		if got := (&Refusal{Cause: cause}).Error(); got != "refused: "+want {
			t.Errorf("Error = %q; want the cause %s", got, want)
		}
	}
	for scheme, want := range map[Scheme]string{Bearer: "bearer", APIKey: "api_key", Both: "both", ServiceKey: "service_key"} {
		if string(scheme) != want {
			t.Errorf("scheme %q; want %s", scheme, want)
		}
	}
}
