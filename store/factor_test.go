package store_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// factorModel says in plain words what a factor is after each change.
type factorModel struct {
	had, has, on bool // had a factor ever, has one now, sign-in demands it
	secret       store.Secret
	step         int64
	codes        int
	failures     uint8
	changed      time.Time
}

// want returns the factor that the model describes.
func (m factorModel) want() store.Factor {
	switch {
	case !m.had:
		return store.Factor{State: store.None}
	case !m.has:
		return store.Factor{State: store.Removed, Changed: m.changed}
	}
	f := store.Factor{
		State: store.Off, Changed: m.changed, Secret: m.secret, ConfirmStep: 1, LastStep: m.step,
		RecoveryCodes: append([]store.RecoveryCode(nil), storetest.NewRecoveryCodes(1)[:m.codes]...), TOTP: store.Attempts{Failures: m.failures},
	}
	if m.on {
		f.State = store.Enrolled
	}
	return f
}

func TestFactor_ChangesAsTheModel(t *testing.T) {
	sealKeys := storetest.NewSealKey("k1") + "," + storetest.NewSealKey("k2")
	rapid.Check(t, func(r *rapid.T) {
		f := storetest.NewFactors(t, store.NewMemory(time.Now), sealKeys)
		var model factorModel
		change := func(do func(store.Factor) store.Factor) { f.MustChange(t, "ada", do) }
		now := func() time.Time {
			f.Clock.Advance(time.Second)
			return time.UnixMilli(f.Clock.Now().UnixMilli())
		}
		r.Repeat(map[string]func(*rapid.T){
			"enrol": func(*rapid.T) {
				at := now()
				model = factorModel{true, true, true, f.MustEnrol(t, "ada", 1).Secret, 1, store.MaxRecoveryCodes, 0, at}
			},
			"remove": func(*rapid.T) {
				at := now()
				change(func(f store.Factor) store.Factor { return f.Remove(at) })
				if model.has {
					model.has, model.changed = false, at
				}
			},
			"switch": func(r *rapid.T) {
				on := rapid.Bool().Draw(r, "on")
				change(func(f store.Factor) store.Factor { return f.SetEnabled(on) })
				model.on = on
			},
			"accept": func(*rapid.T) {
				if model.has {
					change(func(f store.Factor) store.Factor { f.LastStep++; f.TOTP = store.Attempts{}; return f })
					model.step, model.failures = model.step+1, 0
				}
			},
			"refuse": func(*rapid.T) {
				if model.has {
					change(func(f store.Factor) store.Factor { f.TOTP.Failures++; return f })
					model.failures++
				}
			},
			"use a recovery code": func(*rapid.T) {
				if model.has && model.codes > 0 {
					change(func(f store.Factor) store.Factor {
						f.RecoveryCodes = f.RecoveryCodes[:len(f.RecoveryCodes)-1]
						return f
					})
					model.codes--
				}
			},
			"": func(r *rapid.T) {
				got, err := f.Find(t.Context(), "ada")
				// cmp.Diff takes ten times as long.
				if want := model.want(); !reflect.DeepEqual(want, got) || err != nil {
					r.Fatalf("factor: %v (-want +got):\n%s", err, cmp.Diff(want, got))
				}
				if got.Exists() != model.has {
					r.Fatalf("Exists() = %t; want %t", got.Exists(), model.has)
				}
			},
		})
	})
}

// A Factor is a value: a caller's codes stay the caller's.
func TestFactor_EnrolCopiesTheCodes(t *testing.T) {
	codes := storetest.NewRecoveryCodes(1)
	f := store.Factor{}.Enrol(storetest.NewSecret(), 1, codes, time.Now())
	codes[0] = store.RecoveryCode{9}
	if f.RecoveryCodes[0] == codes[0] {
		t.Error("the factor changed with the caller's codes")
	}
}

func TestFactor_NeverPrintsSecretOrCodes(t *testing.T) {
	f := store.Factor{State: store.Enrolled, Secret: store.Secret([]byte("secret-secret-secret")), RecoveryCodes: []store.RecoveryCode{store.RecoveryCode([]byte("code-code!"))}}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "factor", f, "code", f.RecoveryCodes[0])
	printed := log.String() + fmt.Sprintf("%v %+v %#v %v", f, f, f, &f)
	for _, leak := range []string{"secret-s", "code-c", "7365637265742d", "636f64652d", "c2Vj", "Y29k", "115 101 99", "99 111 100", "0x73", "0x63"} {
		if strings.Contains(printed, leak) {
			t.Errorf("%q shows in %s", leak, printed)
		}
	}
	if !strings.Contains(printed, "recovery code(hidden)") || !strings.Contains(printed, "secret(hidden)") {
		t.Errorf("printed %s; want that both are hidden", printed)
	}
}
