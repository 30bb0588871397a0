package store

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// times draws a time that a record can hold.
var times = rapid.Custom(func(t *rapid.T) time.Time {
	return atMilliseconds(rapid.Int64Range(0, 1<<48).Draw(t, "milliseconds"))
})

// factors draws a factor that a record can hold.
var factors = rapid.Custom(func(t *rapid.T) Factor {
	attempts := func(label string) Attempts {
		return Attempts{rapid.Uint8().Draw(t, label), times.Draw(t, label), rapid.Uint8().Draw(t, label), times.Draw(t, label)}
	}
	f := Factor{
		State:       rapid.SampledFrom(factorStates[1:]).Draw(t, "state"),
		Changed:     times.Draw(t, "changed"),
		ConfirmStep: rapid.Int64().Draw(t, "confirm step"),
		LastStep:    rapid.Int64().Draw(t, "last step"),
		TOTP:        attempts("totp"),
		Recovery:    attempts("recovery"),
	}
	copy(f.Secret[:], rapid.SliceOfN(rapid.Byte(), SecretSize, SecretSize).Draw(t, "secret"))
	for range rapid.IntRange(0, MaxRecoveryCodes).Draw(t, "codes") {
		f.RecoveryCodes = append(f.RecoveryCodes, RecoveryCode(rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "code")))
	}
	return f
})

func TestFactor_IsDecodedAsItWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := factors.Draw(t, "factor")
		encoded := want.encode()
		got, err := decodeFactor(encoded)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		if len(encoded) != 82+10*len(want.RecoveryCodes) {
			t.Fatalf("%d bytes with %d recovery codes; want 82 and 10 for each", len(encoded), len(want.RecoveryCodes))
		}
	})
}

// What can be decoded at all is what encode writes: no two records mean the same.
func TestFactor_HasOneEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.SampledFrom([]int{0, 2, 81, 82, 83, 92, 182, 192}).Draw(t, "length")
		record := rapid.SliceOfN(rapid.Byte(), length, length).Draw(t, "record")
		if length < 2 {
			record = []byte{1, 1}
		}
		record[0], record[1] = byte(rapid.IntRange(0, 2).Draw(t, "version")), byte(rapid.IntRange(0, 4).Draw(t, "state"))
		f, err := decodeFactor(record)
		if err != nil {
			if f.State != "" || f.Secret != (Secret{}) {
				t.Fatal("a factor came with the error")
			}
			return
		}
		if diff := cmp.Diff(record, f.encode()); diff != "" {
			t.Fatalf("encoded again (-want +got):\n%s", diff)
		}
	})
}

// The places are part of the format: a record of this version must not change its meaning.
func TestFactor_RecordHasItsPlaces(t *testing.T) {
	f := Factor{
		State: Off, Changed: time.UnixMilli(0x0102030405060708), Secret: Secret{0: 0x11, 19: 0x22}, ConfirmStep: 0x33, LastStep: 0x44,
		TOTP:          Attempts{0x55, time.UnixMilli(0x66), 0x57, time.UnixMilli(0x68)},
		Recovery:      Attempts{0x77, time.UnixMilli(0x88), 0x79, time.UnixMilli(0x8a)},
		RecoveryCodes: []RecoveryCode{{0: 0x99, 9: 0xaa}},
	}
	want := make([]byte, 92)
	copy(want, []byte{1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0x11})
	for i, b := range map[int]byte{29: 0x22, 37: 0x33, 45: 0x44, 46: 0x55, 47: 0x57, 55: 0x66, 63: 0x68, 64: 0x77, 65: 0x79, 73: 0x88, 81: 0x8a, 82: 0x99, 91: 0xaa} {
		want[i] = b
	}
	if diff := cmp.Diff(want, f.encode()); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// No test outside of the package can seal these. storetest's hostileFactors shows that no method replaces one.
func TestFactor_RefusesARecordThatItDoesNotWrite(t *testing.T) {
	keyring := newTwinKeyring(t)
	sound := Factor{State: Enrolled, RecoveryCodes: make([]RecoveryCode, MaxRecoveryCodes)}.encode()
	with := func(i int, value byte) []byte {
		changed := bytes.Clone(sound)
		changed[i] = value
		return changed
	}
	for name, record := range map[string][]byte{
		"a later version":       with(0, 2),
		"state 0":               with(1, 0),
		"an unknown state":      with(1, 4),
		"state 255":             with(1, 255),
		"half a recovery code":  sound[:82+5],
		"eleven recovery codes": append(bytes.Clone(sound), make([]byte, 10)...),
		"half a record":         sound[:63],
		"nothing":               nil,
	} {
		if _, err := openFactor(keyring, "ada", keyring.seal(factorPurpose, "ada", record)); !errors.Is(err, ErrUnreadable) {
			t.Errorf("open of %s = %v; want ErrUnreadable", name, err)
		}
	}
	if _, err := openFactor(keyring, "ada", keyring.seal(factorPurpose, "ada", sound)); err != nil {
		t.Errorf("open of a sound record = %v", err)
	}
	if _, err := openFactor(keyring, "ada", keyring.seal(pendingPurpose, "ada", sound)); !errors.Is(err, ErrUnreadable) {
		t.Errorf("open of a record sealed as a pending secret = %v; want ErrUnreadable", err)
	}
}
