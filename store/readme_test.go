package store_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// row returns the value of a row of README.md.
func row(t *testing.T, name string) string {
	t.Helper()
	match := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + " \\| `(.+)` \\|$").FindStringSubmatch(readme(t))
	if match == nil {
		t.Fatalf("README.md has no row %q", name)
	}
	return match[1]
}

func hexRow(t *testing.T, name string) []byte {
	t.Helper()
	value, err := hex.DecodeString(row(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func timeRow(t *testing.T, name string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, row(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestREADME_TestVectorOpens(t *testing.T) {
	row := func(name string) string { t.Helper(); return row(t, name) }
	value, deadline := hexRow(t, "value (hex)"), timeRow(t, "deadline")
	now := func() time.Time { return deadline.Add(-time.Millisecond) }
	memory := store.NewMemory(now)
	if _, err := memory.PutIfAbsent(t.Context(), row("entry"), value, time.Minute); err != nil {
		t.Fatal(err)
	}
	pending := store.NewPending(memory, storetest.NewKeyring(t, row("sealing key")), time.Minute, now)
	got, err := pending.GetOrCreate(t.Context(), row("account"), storetest.NewSecret())
	if err != nil || got.Outcome != store.Reused || got.Secret.Base32() != row("secret (base32)") || !got.Deadline.Equal(deadline) {
		t.Errorf("GetOrCreate = %s, same secret %t, deadline %v, %v; want reused, true, %v",
			got.Outcome, got.Secret.Base32() == row("secret (base32)"), got.Deadline.UTC(), err, deadline)
	}
}

func TestREADME_FactorVectorOpens(t *testing.T) {
	memory := store.NewMemory(time.Now)
	for _, name := range []string{"factor", "identity"} {
		if err := memory.Swap(t.Context(), row(t, name+"'s entry"), nil, hexRow(t, name+"'s value (hex)"), 0); err != nil {
			t.Fatal(err)
		}
	}
	factors := store.NewFactors(store.FactorsConfig{
		Backend: memory, Keyring: storetest.NewKeyring(t, row(t, "sealing key")), Identity: store.NewIdentity(memory, row(t, "`MFA_STORE_ID`")),
		Now: time.Now, SwapLost: func() {},
	})
	got, err := factors.Find(t.Context(), row(t, "account"))
	want := store.Factor{
		State: store.Enrolled, Changed: timeRow(t, "enrolled"), Secret: got.Secret,
		RecoveryCodes: []store.RecoveryCode{store.RecoveryCode(hexRow(t, "recovery code (hex)"))}, TOTP: store.Attempts{Failures: 1, Recent: 1, RecentAt: timeRow(t, "failed attempt")},
	}
	if _, err := fmt.Sscanf(row(t, "step of the code, last step"), "%d, %d", &want.ConfirmStep, &want.LastStep); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || got.Secret.Base32() != row(t, "secret (base32)") {
		t.Errorf("Find: %v (-want +got):\n%s", err, diff)
	}
}

// The tests of a cluster and of the handshake prove that these rules suffice.
func TestREADME_HasTheFurtherACLRules(t *testing.T) {
	for _, rules := range []string{clusterRules, selectRule, clientNameRule} {
		if !strings.Contains(readme(t), ": `"+rules+"`\n") {
			t.Errorf("README.md lacks the ACL rules %s", rules)
		}
	}
}
