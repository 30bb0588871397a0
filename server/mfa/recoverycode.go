package mfa

import (
	"crypto/rand"
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
		codes[i][len(codes[i])-1] &^= 0x1f // 75 of the 80 bits are used.
	}
	return codes
}

// formatRecoveryCode returns the code as XXXX-XXXX-XXXX-XXXX.
func formatRecoveryCode(code store.RecoveryCode) string {
	symbols := codeSymbolsOf(code)
	var text strings.Builder
	for i, symbol := range symbols {
		if i > 0 && i%4 == 0 {
			text.WriteByte('-')
		}
		text.WriteByte(crockford[symbol])
	}
	return text.String()
}

// codeSymbolsOf splits the code into its 15 symbols of 5 bits and adds the check symbol.
func codeSymbolsOf(code store.RecoveryCode) (symbols [codeSymbols]byte) {
	for i := range codeSymbols - 1 {
		for bit := 5 * i; bit < 5*i+5; bit++ {
			symbols[i] = symbols[i]<<1 | code[bit/8]>>(7-bit%8)&1
		}
	}
	symbols[codeSymbols-1] = checkSymbol(symbols[:codeSymbols-1])
	return symbols
}

// checkSymbol returns the sum of the symbols in GF(32), each times a power of the field's
// generator: Horner's scheme. The powers of the positions differ and none is zero, so one
// mistyped symbol, or two adjacent ones in the wrong order, changes the sum.
func checkSymbol(symbols []byte) (sum byte) {
	for _, symbol := range symbols {
		sum = timesGenerator(sum ^ symbol)
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
