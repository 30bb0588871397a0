package store_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

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

func TestREADME_TestVectorOpens(t *testing.T) {
	text := readme(t)
	row := func(name string) string {
		match := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + " \\| `(.+)` \\|$").FindStringSubmatch(text)
		if match == nil {
			t.Fatalf("README.md has no row %q", name)
		}
		return match[1]
	}
	value, err := hex.DecodeString(row("value (hex)"))
	if err != nil {
		t.Fatal(err)
	}
	deadline, err := time.Parse(time.RFC3339, row("deadline"))
	if err != nil {
		t.Fatal(err)
	}
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

// The tests of a cluster and of the handshake prove that these rules suffice.
func TestREADME_HasTheFurtherACLRules(t *testing.T) {
	for _, rules := range []string{clusterRules, selectRule, clientNameRule} {
		if !strings.Contains(readme(t), ": `"+rules+"`\n") {
			t.Errorf("README.md lacks the ACL rules %s", rules)
		}
	}
}
