package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// newEmptySet returns a loaded set without keys, at a path without a file.
func newEmptySet(t *testing.T, now func() time.Time) *KeySet {
	t.Helper()
	set := NewKeySet(KeySetLocation{path: filepath.Join(t.TempDir(), "none")}, time.Hour, now, slog.New(slog.DiscardHandler))
	set.keys.Store(&[]verificationKey{})
	return set
}

func TestKeySet_RefreshesForUnknownKidsOnceIn30Seconds(t *testing.T) {
	now := testNow
	set := newEmptySet(t, func() time.Time { return now })
	first := set.requestRefresh()
	if first == nil || set.requestRefresh() != first {
		t.Fatal("two requests at the same time do not share a refresh")
	}
	set.refresh(t.Context())
	now = now.Add(30*time.Second - time.Nanosecond)
	if set.requestRefresh() != nil {
		t.Fatal("a second refresh before 30 s have passed")
	}
	now = now.Add(time.Nanosecond)
	if set.requestRefresh() == nil {
		t.Fatal("no second refresh after 30 s")
	}
}

func TestKeySet_AwaitsOnlyUnknownKids(t *testing.T) {
	private, public := newKey(t, jwt.SigningMethodES256)
	set := newEmptySet(t, func() time.Time { return testNow })
	set.keys.Store(&[]verificationKey{{"k", jwt.SigningMethodES256, public}})
	a := newTestAuthenticator(t, &fakeKeys{})
	a.tokens.keys = set
	if _, err := a.Authenticate(t.Context(), bearer(signWith(t, jwt.SigningMethodES256, private, "k"))); err != nil {
		t.Errorf("a known kid: %v", err)
	}
	rsa, _ := newKey(t, jwt.SigningMethodRS256)
	_, err := a.Authenticate(t.Context(), bearer(signWith(t, jwt.SigningMethodRS256, rsa, "")))
	wantRefusal(t, err, TokenKeyUnknown) // a refresh cannot help a token without kid
	if set.refreshed != nil {
		t.Fatal("a token without kid causes a refresh")
	}
	unknown := bearer(signWith(t, jwt.SigningMethodES256, private, "unknown"))
	got, err := a.Authenticate(t.Context(), unknown)
	awaited, ok := errors.AsType[*AwaitedKey](err)
	if !ok || got != (Principal{}) || len(set.wanted) != 1 {
		t.Fatalf("an unknown kid: %+v, %v; want an AwaitedKey and a refresh", got, err)
	}
	set.refresh(t.Context())
	_, err = a.Authenticate(awaited.Wait(t.Context()), unknown)
	wantRefusal(t, err, TokenKeyUnknown)
}

// A request waits at most once, even if the refresh has not ended.
func TestAwaitedKey_WaitsAtMost150Milliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := newEmptySet(t, time.Now)
		_, _, err := set.find(t.Context(), "unknown", "RS256") // Run is not running
		awaited, ok := errors.AsType[*AwaitedKey](err)
		if !ok || awaited.Error() != "the JWK set is being refreshed for an unknown kid" {
			t.Fatalf("find = %v; want an AwaitedKey", err)
		}
		began := time.Now()
		ctx := awaited.Wait(t.Context())
		if waited := time.Since(began); waited != 150*time.Millisecond {
			t.Errorf("it waited %v; want 150 ms", waited)
		}
		if _, ok, err := set.find(ctx, "unknown", "RS256"); ok || err != nil {
			t.Errorf("find after the wait = %t, %v; want no key", ok, err)
		}
	})
}

func TestAwaitedKey_EndsWithTheRefreshOrTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refreshed := make(chan struct{})
		began := time.Now()
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, leave)
		(&AwaitedKey{refreshed}).Wait(ctx)
		if waited := time.Since(began); waited != time.Millisecond {
			t.Errorf("the client left after 1 ms; the wait took %v", waited)
		}
		time.AfterFunc(time.Millisecond, func() { close(refreshed) })
		(&AwaitedKey{refreshed}).Wait(t.Context())
		if waited := time.Since(began); waited != 2*time.Millisecond {
			t.Errorf("the refresh ended after 2 ms; the wait took %v", waited)
		}
	})
}

// A failed refresh ends the waits too, and each wait ends once.
func TestKeySet_EndsTheWaitWithTheRefresh(t *testing.T) {
	set := newEmptySet(t, func() time.Time { return testNow })
	refreshed := set.requestRefresh()
	for range 2 {
		set.refresh(t.Context())
		select {
		case <-refreshed:
		default:
			t.Error("the wait does not end with the refresh")
		}
	}
}

// A refresh that began before a key was published does not end the wait for that key.
func TestKeySet_FindsAKeyPublishedDuringARefresh(t *testing.T) {
	published := testSet(t)
	issuer, set := newIssuerServer(t)
	set.keys.Store(&[]verificationKey{})
	begun, asked := make(chan struct{}), make(chan struct{})
	var responses atomic.Int64
	issuer.handle(func(w http.ResponseWriter, _ *http.Request) {
		if responses.Add(1) > 1 {
			fmt.Fprint(w, published)
			return
		}
		close(begun)
		<-asked
		fmt.Fprint(w, `{"keys":[]}`)
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { set.Run(ctx); close(ended) }()
	<-begun
	refreshed := set.requestRefresh()
	close(asked)
	<-refreshed
	wantSet(t, set, true)
	stop()
	<-ended
}
