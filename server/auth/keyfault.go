package auth

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

// keyFault says why a key of a JWK set verifies no token. It is for the log.
type keyFault struct {
	kid    string // the beginning
	reason string
}

// The reasons of a keyFault. One more names a parameter of another type than its own.
const (
	notAnObject       = "not a JSON object with each name once"
	notForVerifying   = "use or key_ops are of another purpose"
	symmetric         = "symmetric keys verify no tokens"
	notAPublicKey     = "no valid public key of type RSA, EC or OKP"
	weakOrUnsupported = "type, curve, size or exponent not supported"
	otherAlgorithm    = "alg not supported, or of another type of key"
	ambiguous         = "another key fits tokens with this kid and alg, so they are refused"
)

// report logs each fault that the last set did not have.
func (s *KeySet) report(ctx context.Context, faults []keyFault) {
	for i, fault := range faults {
		if slices.Contains(s.faults, fault) || slices.Contains(faults[:i], fault) {
			continue
		}
		level := slog.LevelWarn
		if fault.reason == notForVerifying { // an issuer may have keys for encryption too
			level = slog.LevelInfo
		}
		s.log.Log(ctx, level, "a key of the JWK set verifies no token", "kid", fault.kid, "reason", fault.reason)
	}
	s.faults = faults
}

// shorten returns the beginning of a kid.
func shorten(kid string) string {
	const limit = 64 // bytes
	if len(kid) > limit {
		return strings.ToValidUTF8(kid[:limit], "") + "..."
	}
	return kid
}
