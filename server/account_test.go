package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

const (
	noAttempts   = "failed attempts with codes: 0\nfailed attempts with recovery codes: 0\n"
	unlockedJSON = `"totp_attempts":{"failed":0},"recovery_attempts":{"failed":0}}` + "\n"
	neverHad     = "mfa: the account never had a factor: is --account the sub of its owner's tokens?\n"
)

// accountEvent is the audit line of a command about ada.
func accountEvent(name string, state store.State) string {
	// printf %s ada | openssl sha256 -binary | basenc --base64url | tr -d =
	return event(fmt.Sprintf(`"event":%q,"account":"_e5DDUC9V97qwYbNl5ADPQ8G-QmogG585ucXq3x9UCk","state":%q`, name, state))
}

func TestAccountShow_PrintsTheStateAndNoSecret(t *testing.T) {
	o := startOperated(t)
	const show, showJSON = "account show --account ada", "account show --json --account ada"
	shown := func(state store.State, text, members string) {
		t.Helper()
		before := o.redis.Dump(t)
		stderr := accountEvent("account_shown", state)
		o.want(o.environ, show, 0, "account: \"ada\"\nstate: "+string(state)+"\n"+text, stderr)
		o.want(o.environ, showJSON, 0, `{"account":"ada","state":"`+string(state)+`",`+members, stderr)
		o.want(append(o.environ, "MFA_REDIS_WAIT_REPLICAS=1"), show, 0, "account: \"ada\"\nstate: "+string(state)+"\n"+text, stderr)
		if diff := cmp.Diff(before, o.redis.Dump(t)); diff != "" {
			t.Errorf("show changes the store (-before +after):\n%s", diff)
		}
	}
	shown(store.None, "", `"recovery_codes_left":0,`+unlockedJSON)
	o.change("ada", enrolLocked)
	shown(store.Enrolled, "enrolled: 2026-11-27T21:48:09Z\nrecovery codes left: 2\n"+
		"failed attempts with codes: 6, locked until 2026-11-27T22:00:00Z\nfailed attempts with recovery codes: 0\n",
		`"enrolled":"2026-11-27T21:48:09Z","recovery_codes_left":2,"totp_attempts":{"failed":6,"locked_until":"2026-11-27T22:00:00Z"},"recovery_attempts":{"failed":0}}`+"\n")
	o.change("ada", func(f store.Factor) store.Factor { f.TOTP.Recent = 100; return f })
	shown(store.Enrolled, "enrolled: 2026-11-27T21:48:09Z\nrecovery codes left: 2\n"+
		"failed attempts with codes: 6, off until the other kind succeeds or mfa account unlock\nfailed attempts with recovery codes: 0\n",
		`"enrolled":"2026-11-27T21:48:09Z","recovery_codes_left":2,"totp_attempts":{"failed":6,"off":true,"locked_until":"2026-11-27T22:00:00Z"},"recovery_attempts":{"failed":0}}`+"\n")
	o.change("ada", func(f store.Factor) store.Factor { return f.SetEnabled(false).Unlock() })
	shown(store.Off, "enrolled: 2026-11-27T21:48:09Z\nrecovery codes left: 2\n"+noAttempts, `"enrolled":"2026-11-27T21:48:09Z","recovery_codes_left":2,`+unlockedJSON)
	o.change("ada", func(f store.Factor) store.Factor { return f.Remove(lockedTo) })
	shown(store.Removed, "removed: 2026-11-27T22:00:00Z\n", `"removed":"2026-11-27T22:00:00Z","recovery_codes_left":0,`+unlockedJSON)
}

func TestAccountReset_RemovesTheFactor(t *testing.T) {
	o := startOperated(t)
	o.want(o.environ, "account reset --account ada", exitFault, "", neverHad)
	if entries := o.redis.Dump(t); len(entries) != 1 {
		t.Errorf("reset without a factor leaves %d entries; want the identity alone", len(entries))
	}
	o.change("ada", enrolLocked)
	o.change("bob", enrol)
	for range 2 { // A reply may have been lost: the operator repeats the command.
		stdout, stderr, status := runCommand(t, o.environ, "account", "reset", "--account", "ada")
		if status != 0 || !strings.HasPrefix(stdout, "account: \"ada\"\nstate: removed\nremoved: 20") || !strings.Contains(stderr, `"event":"totp_removed"`) {
			t.Errorf("reset: status %d, %s, %s", status, stdout, stderr)
		}
		o.wantNoSecret("account reset", stdout+stderr)
	}
	o.want(o.environ, "store check", 0, "enrolled: 1\noff: 0\nremoved: 1\nfound sealed with old: 2\nresealed: 0\nunreadable: 0\n",
		event(`"event":"store_checked","resealed":0,"unreadable":0`))
}

func TestAccountReset_PrintsAnEvent(t *testing.T) {
	o := startOperated(t)
	o.change("ada", enrol)
	o.change("ada", func(f store.Factor) store.Factor { return f.Remove(lockedTo) })
	o.want(o.environ, "account reset --json --account ada", 0,
		`{"account":"ada","state":"removed","removed":"2026-11-27T22:00:00Z","recovery_codes_left":0,`+unlockedJSON,
		accountEvent("totp_removed", store.Removed))
}

func TestAccountUnlock_ForgetsFailedAttempts(t *testing.T) {
	o := startOperated(t)
	o.want(o.environ, "account unlock --account ada", exitFault, "", neverHad)
	o.change("ada", enrolLocked)
	unlocked := accountEvent("factor_unlocked", store.Enrolled)
	const text = "account: \"ada\"\nstate: enrolled\nenrolled: 2026-11-27T21:48:09Z\nrecovery codes left: 2\n" + noAttempts
	o.want(o.environ, "account unlock --account ada", 0, text, unlocked)
	o.want(o.environ, "account unlock --json --account ada", 0,
		`{"account":"ada","state":"enrolled","enrolled":"2026-11-27T21:48:09Z","recovery_codes_left":2,`+unlockedJSON, unlocked)
	o.want(o.environ, "account show --account ada", 0, text, accountEvent("account_shown", store.Enrolled))
}

// A factor that cannot be read is replaced only if support says so.
func TestAccount_LeavesAnUnreadableFactor(t *testing.T) {
	o := startOperated(t)
	key := "mfa:{" + store.Digest("ada") + "}:factor"
	if err := o.redis.Client.Set(t.Context(), key, "damaged", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := o.redis.Dump(t)
	for command, prefix := range map[string]string{"show": "find factor: ", "reset": "change factor: ", "unlock": "change factor: "} {
		o.want(o.environ, "account "+command+" --account ada", exitFault, "", "mfa: "+prefix+"store unavailable: factor is unreadable\n")
	}
	if diff := cmp.Diff(before, o.redis.Dump(t)); diff != "" {
		t.Errorf("the commands change the store (-before +after):\n%s", diff)
	}
	o.want(o.environ, "account reset --unreadable --account bob", exitFault, "", neverHad)
	if stdout, stderr, status := runCommand(t, o.environ, "account", "reset", "--unreadable", "--account", "ada"); status != 0 || !strings.Contains(stdout, "state: removed\n") {
		t.Errorf("reset --unreadable: status %d, %s, %s", status, stdout, stderr)
	}
}

// A change that too few replicas have is not reported as done, and no event says so.
func TestAccountReset_FailsWithoutTheRequiredReplicas(t *testing.T) {
	o := startOperated(t)
	o.change("ada", enrol)
	environ := append(slices.Clone(o.environ), "MFA_REDIS_WAIT_REPLICAS=1")
	for range 2 {
		o.want(environ, "account reset --account ada", exitFault, "", "mfa: change factor: store unavailable: 0 of 1 replicas have acknowledged the write\n")
	}
}

func TestAccount_RefusesIDsThatCannotBeShown(t *testing.T) {
	for _, c := range []struct{ account, fault string }{
		{"", "--account must be 1 to 255 bytes of UTF-8"},
		{strings.Repeat("x", 256), "--account must be 1 to 255 bytes of UTF-8"},
		{"\xff", "--account must be 1 to 255 bytes of UTF-8"},
		{"ada\n", "--account has a line break or another character that cannot be shown"},
		{"a\x1b[2Jb", "--account has a line break or another character that cannot be shown"},
		{"a\u202eb", "--account has a line break or another character that cannot be shown"},
		{"a\u200bb", "--account has a line break or another character that cannot be shown"},
	} {
		for _, command := range [][]string{
			{"account", "show"}, {"account", "reset"}, {"account", "unlock"}, {"apikey", "create", "--email", "ada@example.com"},
		} {
			stdout, stderr, status := runCommand(t, nil, append(command, "--account", c.account)...)
			if status != exitUsage || stdout != "" || stderr != "mfa: usage: "+c.fault+"\n" {
				t.Errorf("mfa %q --account %q: status %d, %q, %q; want %d, %s", command, c.account, status, stdout, stderr, exitUsage, c.fault)
			}
		}
	}
}
