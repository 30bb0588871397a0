package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Unknown kids may cause one refresh in 30 s, whoever sends them.
func TestUnknownKeysAskForOneRefreshIn30Seconds(t *testing.T) {
	now := testNow
	set := NewKeySet(KeySetLocation{path: "/no/such/file"}, time.Hour, func() time.Time { return now }, nil)
	set.keys.Store(&[]verificationKey{})
	first := set.ask()
	if first == nil || set.ask() != first {
		t.Fatal("two that ask at the same time do not wait for the same refresh")
	}
	end := func() { // as refresh does, without reading the file
		close(set.begin())
		set.asked = nil
	}
	end()
	now = now.Add(30*time.Second - time.Nanosecond)
	if set.ask() != nil {
		t.Fatal("a second refresh before 30 s have passed")
	}
	now = now.Add(time.Nanosecond)
	if set.ask() == nil {
		t.Fatal("no second refresh after 30 s")
	}
	end()
}

// Each refresh ends the wait of those who asked before it began, and of nobody twice.
func TestARefreshEndsTheWaitForIt(t *testing.T) {
	set := NewKeySet(KeySetLocation{path: "/no/such/file"}, time.Hour, time.Now, slog.New(slog.DiscardHandler))
	asked := set.ask()
	for range 2 {
		set.refresh(t.Context())
		select {
		case <-asked:
		default:
			t.Error("the wait has not ended with the refresh")
		}
	}
}

// A refresh that began before a key was published does not end the wait for that key.
func TestAKeyThatIsPublishedDuringARefreshIsFound(t *testing.T) {
	_, public := benchKey(t, jwt.SigningMethodEdDSA)
	published := `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"new","x":"` + base64.RawURLEncoding.EncodeToString(public.(ed25519.PublicKey)) + `"}]}`
	asked, first := make(chan struct{}), make(chan struct{}, 1)
	first <- struct{}{}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-first: // this answer was old before the token came
			<-asked
			fmt.Fprint(w, `{"keys":[]}`)
		default:
			fmt.Fprint(w, published)
		}
	}))
	defer issuer.Close()
	set := NewKeySet(KeySetLocation{url: issuer.URL}, time.Hour, time.Now, slog.New(slog.DiscardHandler))
	set.keys.Store(&[]verificationKey{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { set.Run(ctx); close(ended) }()
	for len(first) > 0 { // until the first answer is under way
		runtime.Gosched()
	}
	wait := set.ask()
	close(asked)
	<-wait
	if _, ok := set.lookUp("new", "EdDSA"); !ok {
		t.Error("the wait ended with the set of before")
	}
	stop()
	<-ended
}

// A token with an unknown kid does not wait for an issuer that does not answer, and that
// issuer does not end the refreshing.
func TestTheWaitForAKeyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewKeySet(KeySetLocation{url: "http://127.0.0.1"}, time.Hour, time.Now, nil)
		set.keys.Store(&[]verificationKey{})
		if _, ok, err := set.find(t.Context(), "", "RS256"); ok || err != nil || set.asked != nil {
			t.Error("a token without kid asked for a refresh, which cannot help it")
		}
		_, ok, err := set.find(t.Context(), "unknown", "RS256") // and nothing runs that could refresh the set
		awaited, awaits := errors.AsType[*AwaitedKey](err)
		if ok || !awaits || set.asked == nil || len(set.wanted) != 1 {
			t.Fatalf("%t, %v; want a refresh asked for and awaited", ok, err)
		}
		began := time.Now()
		ctx := awaited.Wait(t.Context())
		if waited := time.Since(began); waited != 150*time.Millisecond { // README.md says so
			t.Errorf("it waited %v; want 150 ms", waited)
		}
		// Even if the refresh has not ended.
		if _, ok, err := set.find(ctx, "unknown", "RS256"); ok || err != nil {
			t.Errorf("after the wait: %t, %v; want no key", ok, err)
		}
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if awaited.Wait(ctx); time.Since(began) != 150*time.Millisecond {
			t.Error("it waited for a client that has left")
		}
		refreshed := make(chan struct{})
		time.AfterFunc(time.Millisecond, func() { close(refreshed) })
		if (&AwaitedKey{refreshed}).Wait(t.Context()); time.Since(began) != 151*time.Millisecond {
			t.Error("it waited longer than for the set")
		}
		if set.client.Timeout != fetchTimeout {
			t.Errorf("it waits %v for an issuer", set.client.Timeout)
		}
	})
}

func TestAKeySetIsReadFromARegularFileAlone(t *testing.T) {
	if _, err := readRegularFile("/dev/zero"); err == nil || err.Error() != "not a regular file" {
		t.Errorf("/dev/zero: %v; want a refusal", err)
	}
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, make([]byte, maxKeySet+10), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := readRegularFile(path); len(text) != maxKeySet+1 || err != nil {
		t.Errorf("%d bytes, %v; want no more than it takes to see that it is too long", len(text), err)
	}
}
