package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// State says whether an account has a factor.
type State string

// The states of a Factor. They change like this:
//
//	none, removed  --Enrol-->            enrolled
//	enrolled, off  --Enrol-->            enrolled, with another secret
//	enrolled       --SetEnabled(false)-> off
//	off            --SetEnabled(true)--> enrolled
//	enrolled, off  --Remove-->           removed
//
// No other change happens. A pending secret is beside the factor and not a state of it.
const (
	None     State = "none"     // the account never had a factor
	Enrolled State = "enrolled" // sign-in demands the factor
	Off      State = "off"      // the account keeps the factor, and sign-in does not demand it
	Removed  State = "removed"  // the account had a factor
)

// Factor is the second factor of an account. A Factor is a value: its methods return a changed
// copy.
type Factor struct {
	State   State
	Changed time.Time // when it was enrolled or removed, in whole milliseconds

	Secret      Secret
	ConfirmStep int64 // time step of the code that confirmed the secret (RFC 6238, section 4.2)
	LastStep    int64 // last accepted time step: a code is good once (RFC 6238, section 5.2)

	RecoveryCodes []RecoveryCode // used and unused ones, at most MaxRecoveryCodes

	TOTP     Attempts // with codes of the app
	Recovery Attempts // with recovery codes
}

// Attempts are the failed attempts with one kind of code. Package mfa has the rules.
type Attempts struct {
	Failures uint8     // since the last success
	Until    time.Time // no attempt is evaluated before; zero: now
	Recent   uint8     // failures that are not forgotten yet
	RecentAt time.Time // from then on, the oldest of them is being forgotten
}

// MaxRecoveryCodes is the number of recovery codes of a new factor.
const MaxRecoveryCodes = 10

// RecoveryCode is a recovery code: 75 random bits, 4 zero bits, and a bit that says whether the
// code was used. It never prints itself.
type RecoveryCode [10]byte

// Used tells whether the code was used.
func (c RecoveryCode) Used() bool { return c[len(c)-1]&1 == 1 }

// Use returns the code as a used one.
func (c RecoveryCode) Use() RecoveryCode {
	c[len(c)-1] |= 1
	return c
}

// Format hides the code from every fmt verb.
func (RecoveryCode) Format(f fmt.State, _ rune) { fmt.Fprint(f, "recovery code(hidden)") }

// MarshalText hides the code from encoders such as log/slog's.
func (RecoveryCode) MarshalText() ([]byte, error) { return []byte("recovery code(hidden)"), nil }

// UnusedCodes returns the recovery codes that are not used yet.
func (f Factor) UnusedCodes() []RecoveryCode {
	return slices.DeleteFunc(slices.Clone(f.RecoveryCodes), RecoveryCode.Used)
}

// Exists tells whether the account has a factor, switched on or off.
func (f Factor) Exists() bool { return f.State == Enrolled || f.State == Off }

// Enrol returns the factor of secret, confirmed at now with a code of the time step step. It
// replaces all of an earlier factor.
func (f Factor) Enrol(secret Secret, step int64, codes []RecoveryCode, now time.Time) Factor {
	return Factor{
		State:         Enrolled,
		Changed:       time.UnixMilli(now.UnixMilli()),
		Secret:        secret,
		ConfirmStep:   step,
		LastStep:      step,
		RecoveryCodes: slices.Clone(codes),
	}
}

// SetEnabled returns f switched on or off. Without a factor it returns f.
func (f Factor) SetEnabled(enabled bool) Factor {
	switch {
	case !f.Exists():
	case enabled:
		f.State = Enrolled
	default:
		f.State = Off
	}
	return f
}

// Unlock returns f with no failed attempts.
func (f Factor) Unlock() Factor {
	f.TOTP, f.Recovery = Attempts{}, Attempts{}
	return f
}

// Remove returns the tombstone of f: it holds no secret and no recovery code. Without a factor
// it returns f.
func (f Factor) Remove(now time.Time) Factor {
	if !f.Exists() {
		return f
	}
	return Factor{State: Removed, Changed: time.UnixMilli(now.UnixMilli())}
}

const factorVersion = 1

// factorStates are the states that a record may have. Their places are part of the format.
// Place 0 is for None, and no record has it.
var factorStates = []State{1: Enrolled, 2: Off, 3: Removed}

// factorRecord is the plaintext of a sealed factor, big endian, before the recovery codes.
// Times are Unix milliseconds; 0: none.
type factorRecord struct {
	Version, State        uint8
	Changed               int64
	Secret                Secret
	ConfirmStep, LastStep int64
	TOTP, Recovery        attemptsRecord
}

type attemptsRecord struct {
	Failures, Recent uint8
	Until, RecentAt  int64
}

func (a Attempts) record() attemptsRecord {
	return attemptsRecord{a.Failures, a.Recent, milliseconds(a.Until), milliseconds(a.RecentAt)}
}

func (r attemptsRecord) attempts() Attempts {
	return Attempts{r.Failures, atMilliseconds(r.Until), r.Recent, atMilliseconds(r.RecentAt)}
}

func (f Factor) encode() []byte {
	record := factorRecord{
		Version: factorVersion, State: uint8(max(0, slices.Index(factorStates, f.State))), Changed: milliseconds(f.Changed),
		Secret: f.Secret, ConfirmStep: f.ConfirmStep, LastStep: f.LastStep,
		TOTP: f.TOTP.record(), Recovery: f.Recovery.record(),
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, record)          // A Buffer takes all of it,
	_ = binary.Write(&b, binary.BigEndian, f.RecoveryCodes) // and the types have fixed sizes.
	return b.Bytes()
}

// decodeFactor returns errUnreadable for a record of another version, and for one that encode
// does not write.
func decodeFactor(b []byte) (Factor, error) {
	var record factorRecord
	n, err := binary.Decode(b, binary.BigEndian, &record)
	if err != nil || record.Version != factorVersion || record.State == 0 || int(record.State) >= len(factorStates) {
		return Factor{}, errUnreadable
	}
	f := Factor{
		State: factorStates[record.State], Changed: atMilliseconds(record.Changed),
		Secret: record.Secret, ConfirmStep: record.ConfirmStep, LastStep: record.LastStep,
		TOTP: record.TOTP.attempts(), Recovery: record.Recovery.attempts(),
	}
	for code := range slices.Chunk(b[n:], len(RecoveryCode{})) {
		if len(code) != len(RecoveryCode{}) || len(f.RecoveryCodes) == MaxRecoveryCodes {
			return Factor{}, errUnreadable
		}
		f.RecoveryCodes = append(f.RecoveryCodes, RecoveryCode(code))
	}
	return f, nil
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func atMilliseconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}
