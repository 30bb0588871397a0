package main

import (
	"context"
	"encoding/base64"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// operated is a store that an operator works on with commands.
type operated struct {
	t       *testing.T
	redis   *storetest.RedisServer
	oldKey  string // id:base64
	newKey  string
	id      string   // MFA_STORE_ID
	environ []string // with the old key
}

// startOperated initializes the shared Redis with the command.
func startOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{t: t, redis: storetest.SharedRedis(t), oldKey: storetest.NewSealKey("old"), newKey: storetest.NewSealKey("new")}
	environ := []string{"MFA_REDIS_URL=" + o.redis.URL, "MFA_SEAL_KEYS=" + o.oldKey}
	stdout, _, status := runCommand(t, environ, "store", "init")
	if status != 0 || !regexp.MustCompile(`^[A-Z2-7]{26}\n$`).MatchString(stdout) {
		t.Fatalf("store init: status %d, %q; want the id alone", status, stdout)
	}
	o.id = strings.TrimSpace(stdout)
	o.environ = append(slices.Clone(environ), "MFA_STORE_ID="+o.id)
	return o
}

// with returns the operator's settings with these sealing keys.
func (o *operated) with(sealKeys string) []string {
	return append(slices.Clone(o.environ[:1]), "MFA_SEAL_KEYS="+sealKeys, "MFA_STORE_ID="+o.id)
}

// change changes the factor of account as the service does.
func (o *operated) change(account string, change func(store.Factor) store.Factor) {
	o.t.Helper()
	s, err := config.Load(o.environ, nil, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	backend := store.NewRedis(*s.RedisURL)
	defer backend.Close()
	_, err = store.NewFactors(store.FactorsConfig{
		Backend: backend, Keyring: s.SealKeys, Identity: store.NewIdentity(backend, o.id), Now: time.Now, SwapLost: func() {}, Unreadable: func() {}, Written: func() {},
	}).Change(o.t.Context(), account, func(f store.Factor) (store.Factor, error) { return change(f), nil })
	if err != nil {
		o.t.Fatal(err)
	}
}

// The factor of the tests.
var (
	enrolledAt = time.Date(2026, 11, 27, 21, 48, 9, 0, time.UTC)
	lockedTo   = time.Date(2026, 11, 27, 22, 0, 0, 0, time.UTC)
	totpSecret = store.Secret([]byte("12345678901234567890"))
	recovery   = []store.RecoveryCode{store.RecoveryCode([]byte("ABCDEFGHI\x00")), store.RecoveryCode([]byte("JKLMNOPQR\x00"))}
)

func enrol(f store.Factor) store.Factor { return f.Enrol(totpSecret, 7, recovery, enrolledAt) }

// enrolLocked enrols a factor that waits after failed attempts.
func enrolLocked(f store.Factor) store.Factor {
	f = enrol(f)
	f.TOTP = store.Attempts{Failures: 6, Until: lockedTo}
	return f
}

// want runs a command and demands exactly this output. T in stderr stands for the time.
func (o *operated) want(environ []string, command string, status int, stdout, stderr string) {
	o.t.Helper()
	gotOut, gotErr, gotStatus := runCommand(o.t, environ, strings.Split(command, " ")...)
	masked := regexp.MustCompile(`"time":"[0-9T:.+Z-]{20,35}"`).ReplaceAllString(gotErr, `"time":"T"`)
	if diff := cmp.Diff([]string{stdout, stderr}, []string{gotOut, masked}); diff != "" || gotStatus != status {
		o.t.Errorf("mfa %s: status %d; want %d; stdout and stderr (-want +got):\n%s", command, gotStatus, status, diff)
	}
	o.wantNoSecret(command, gotOut+gotErr)
}

// wantNoSecret looks for secrets, recovery codes and sealing keys, as text and encoded.
func (o *operated) wantNoSecret(command, output string) {
	o.t.Helper()
	secrets := []string{string(totpSecret[:]), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", base64.StdEncoding.EncodeToString(totpSecret[:])}
	for _, code := range recovery {
		secrets = append(secrets, string(code[:9]), base64.StdEncoding.EncodeToString(code[:9]))
	}
	for _, key := range []string{o.oldKey, o.newKey} {
		_, encoded, _ := strings.Cut(key, ":")
		secrets = append(secrets, encoded)
	}
	for _, secret := range secrets {
		if strings.Contains(output, secret) {
			o.t.Errorf("mfa %s prints the secret %q", command, secret)
		}
	}
}

// event is the audit line of a command.
func event(members string) string {
	return `{"time":"T","level":"INFO","msg":"command",` + members + "}\n"
}

const (
	otherStore = "store unavailable: store identity is another than MFA_STORE_ID\n"
	lostStore  = "store unavailable: store identity is absent: its data was lost, or MFA_REDIS_URL names another database\n"
	lacksKey   = "store unavailable: store identity is unreadable: MFA_SEAL_KEYS lacks its sealing key\n"
)

func TestStoreInit_GivesAnIdentityOnce(t *testing.T) {
	o := startOperated(t)
	before := o.redis.Dump(t)
	o.want(o.environ, "store init", exitFault, "", "mfa: the store is initialized already: MFA_STORE_ID is "+o.id+"\n")
	o.want(o.environ, "store init --accept-loss --json", exitFault, "", "mfa: the store is initialized already: MFA_STORE_ID is "+o.id+"\n")
	o.want(o.with(o.newKey), "store init", exitFault, "", "mfa: read store identity: "+lacksKey)
	if diff := cmp.Diff(before, o.redis.Dump(t)); diff != "" || !slices.Equal(slices.Collect(maps.Keys(before)), []string{"mfa:store"}) {
		t.Errorf("the second init changes the store, or the first wrote more than the identity (-before +after):\n%s", diff)
	}
}

func TestStoreInit_PrintsJSONAndAnEvent(t *testing.T) {
	o := startOperated(t)
	o.redis.Client.FlushAll(t.Context())
	stdout, stderr, status := runCommand(t, o.environ, "store", "init", "--json")
	id := regexp.MustCompile(`[A-Z2-7]{26}`).FindString(stdout)
	masked := regexp.MustCompile(`"time":"[^"]*"`).ReplaceAllString(stderr, `"time":"T"`)
	if status != 0 || stdout != `{"store_id":"`+id+"\"}\n" || masked != event(`"event":"store_initialized","store_id":"`+id+`","accept_loss":false`) || id == o.id {
		t.Errorf("store init --json: status %d, %s, %s; want a new id and its event", status, stdout, stderr)
	}
}

func TestStoreCheck_CountsFactors(t *testing.T) {
	o := startOperated(t)
	const empty = "enrolled: 0\noff: 0\nremoved: 0\nresealed: 0\nunreadable: 0\n"
	checked := event(`"event":"store_checked","resealed":0,"unreadable":0`)
	o.want(o.environ, "store check", 0, empty, checked)
	o.want(o.environ, "store check --json", 0, `{"states":{},"seal_keys":{},"unreadable":[],"resealed":0}`+"\n", checked)
	o.change("ada", enrol)
	o.change("bob", enrol)
	o.change("bob", func(f store.Factor) store.Factor { return f.SetEnabled(false) })
	o.change("cy", enrol)
	o.change("cy", func(f store.Factor) store.Factor { return f.Remove(enrolledAt) })
	o.want(o.environ, "store check", 0, "enrolled: 1\noff: 1\nremoved: 1\nfound sealed with old: 3\nresealed: 0\nunreadable: 0\n", checked)
	o.want(o.environ, "store check --json", 0, `{"states":{"enrolled":1,"off":1,"removed":1},"seal_keys":{"old":3},"unreadable":[],"resealed":0}`+"\n", checked)
}

func TestStoreCheck_FailsIfAFactorIsUnreadable(t *testing.T) {
	o := startOperated(t)
	o.change("ada", enrol)
	digest := store.Digest("bob")
	if err := o.redis.Client.Set(t.Context(), "mfa:{"+digest+"}:factor", "damaged", 0).Err(); err != nil {
		t.Fatal(err)
	}
	const found = "enrolled: 1\noff: 0\nremoved: 0\nfound sealed with old: 1\nresealed: 0\nunreadable: 1\n"
	for command, name := range map[string]string{"check": "store_checked", "reseal": "store_resealed"} {
		stderr := event(`"event":"`+name+`","resealed":0,"unreadable":1`) + "mfa: factors that cannot be opened: 1\n"
		o.want(o.environ, "store "+command, exitFault, found+"unreadable account: "+digest+"\n", stderr)
		o.want(o.environ, "store "+command+" --json", exitFault, `{"states":{"enrolled":1},"seal_keys":{"old":1},"unreadable":["`+digest+`"],"resealed":0}`+"\n", stderr)
	}
}

func TestStoreReseal_LetsTheOldKeyGo(t *testing.T) {
	o := startOperated(t)
	o.change("ada", enrol)
	o.change("bob", enrol)
	counts := func(key string, resealed string) string {
		return "enrolled: 2\noff: 0\nremoved: 0\nfound sealed with " + key + ": 2\nresealed: " + resealed + "\nunreadable: 0\n"
	}
	both := o.with(o.newKey + "," + o.oldKey)
	o.want(both, "store reseal", 0, counts("old", "2"), event(`"event":"store_resealed","resealed":2,"unreadable":0`))
	o.want(both, "store reseal", 0, counts("new", "0"), event(`"event":"store_resealed","resealed":0,"unreadable":0`))
	o.want(o.with(o.newKey), "store check", 0, counts("new", "0"), event(`"event":"store_checked","resealed":0,"unreadable":0`))
	o.want(o.with(o.newKey), "account show --account ada", 0,
		"account: \"ada\"\nstate: enrolled\nenrolled: 2026-11-27T21:48:09Z\nrecovery codes left: 2\nfailed attempts with codes: 0\nfailed attempts with recovery codes: 0\n",
		event(`"event":"account_shown","account":"`+store.Digest("ada")+`","state":"enrolled"`))
	o.want(o.with(o.oldKey), "store check", exitFault, "", "mfa: read store identity: "+lacksKey)
}

// Each command that touches factors refuses the settings that are missing, and another store.
func TestStore_CommandsRefuseAnotherStore(t *testing.T) {
	o := startOperated(t)
	o.change("ada", enrol)
	before := o.redis.Dump(t)
	other := append(slices.Clone(o.environ[:2]), "MFA_STORE_ID=OTHER")
	for command, prefix := range map[string]string{
		"store check": "", "store reseal": "", "account show --account ada": "find factor: ",
		"account reset --account ada": "change factor: ", "account unlock --account ada": "change factor: ",
	} {
		o.want(nil, command, exitUsage, "", "mfa: settings:\n  MFA_REDIS_URL: is required\n  MFA_SEAL_KEYS: is required\n  MFA_STORE_ID: is required\n")
		o.want([]string{"MFA_SEAL_KEYS=" + o.oldKey[1:10]}, command, exitUsage, "", "mfa: settings:\n  MFA_SEAL_KEYS: "+sealKeyFault(t, o.oldKey[1:10])+"\n")
		o.want(other, command, exitFault, "", "mfa: "+prefix+otherStore)
	}
	if diff := cmp.Diff(before, o.redis.Dump(t)); diff != "" {
		t.Errorf("a refused command has changed the store (-before +after):\n%s", diff)
	}
	o.want(nil, "store init", exitUsage, "", "mfa: settings:\n  MFA_REDIS_URL: is required\n  MFA_SEAL_KEYS: is required\n")
	o.redis.Client.FlushAll(t.Context())
	o.want(o.environ, "store check", exitFault, "", "mfa: "+lostStore)
	o.want(o.environ, "account show --account ada", exitFault, "", "mfa: find factor: "+lostStore)
}

// sealKeyFault returns the fault of a value of MFA_SEAL_KEYS.
func sealKeyFault(t *testing.T, value string) string {
	t.Helper()
	err := new(store.Keyring).UnmarshalText([]byte(value))
	if err == nil {
		t.Fatal("a truncated sealing key is accepted")
	}
	return err.Error()
}

func TestStore_CommandsFailIfStdoutFails(t *testing.T) {
	o := startOperated(t)
	o.change("ada", enrol)
	for _, command := range []string{"store check", "store check --json", "account show --account ada", "account show --json --account ada"} {
		var stderr strings.Builder
		status := run(context.Background(), strings.Split(command, " "), o.environ, brokenOutput{}, &stderr)
		if status != exitFault || !strings.HasSuffix(stderr.String(), "\nmfa: disk full\n") {
			t.Errorf("mfa %s: status %d, %s; want %d", command, status, &stderr, exitFault)
		}
	}
}
