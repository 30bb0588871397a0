package mfa

import (
	"crypto/rand"
	"encoding/base32"
	"strings"

	"quiva.ai/mfa/store"
)

// crockford is the alphabet of Crockford's Base 32: no I, L, O or U, which are misread.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// codeSymbols is the length of a recovery code: 15 random symbols of 5 bits, and one check
// symbol.
const codeSymbols = 16

// newRecoveryCodes makes a full set of recovery codes with 75 random bits each.
func newRecoveryCodes() []store.RecoveryCode {
	codes := make([]store.RecoveryCode, store.MaxRecoveryCodes)
	for i := range codes {
		rand.Read(codes[i][:])
		clearCheckBits(&codes[i])
	}
	return codes
}

// clearCheckBits clears the last 5 of the 80 bits. The check symbol takes their place in text.
func clearCheckBits(code *store.RecoveryCode) { code[len(code)-1] &^= 0x1f }

// parseRecoveryCode reads a recovery code as a person may type it: in any case, with spaces and
// dashes anywhere, with O for 0 and I or L for 1. It refuses a code whose check symbol is wrong.
func parseRecoveryCode(text string) (code store.RecoveryCode, ok bool) {
	text = strings.NewReplacer("O", "0", "I", "1", "L", "1").Replace(withoutSeparators(text))
	b, err := crockfordEncoding().DecodeString(text)
	if err != nil || len(b) != len(code) {
		return store.RecoveryCode{}, false
	}
	code = store.RecoveryCode(b)
	clearCheckBits(&code)
	if symbolsOf(code) != text {
		return store.RecoveryCode{}, false
	}
	return code, true
}

// formatRecoveryCode returns the code in four groups of four symbols, with dashes between them.
func formatRecoveryCode(code store.RecoveryCode) string {
	s := symbolsOf(code)
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

// symbolsOf returns the 15 symbols of the code and the check symbol.
func symbolsOf(code store.RecoveryCode) string {
	symbols := crockfordEncoding().EncodeToString(code[:])[:codeSymbols-1]
	return symbols + string(crockford[checkSymbol(symbols)])
}

func crockfordEncoding() *base32.Encoding {
	return base32.NewEncoding(crockford).WithPadding(base32.NoPadding)
}

// checkSymbol returns the sum of the symbols in GF(32), each times a power of the field's
// generator: Horner's scheme. The powers of the positions differ and none is zero, so one
// mistyped symbol, or two symbols in the wrong order, change the sum.
func checkSymbol(symbols string) (sum byte) {
	for _, symbol := range symbols {
		sum = timesGenerator(sum ^ byte(strings.IndexRune(crockford, symbol)))
	}
	return sum
}

// timesGenerator multiplies by x in GF(32) modulo x^5 + x^2 + 1, which is primitive.
func timesGenerator(a byte) byte {
	if a <<= 1; a >= 32 {
		a ^= 0b100101
	}
	return a
}

func formatRecoveryCodes(codes []store.RecoveryCode) []string {
	texts := make([]string, len(codes))
	for i, code := range codes {
		texts[i] = formatRecoveryCode(code)
	}
	return texts
}
