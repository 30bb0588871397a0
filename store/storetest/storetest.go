// Package storetest is the contract of package store in executable form: what a
// store.Backend must do, and what store.Pending, store.Factors and store.APIKeys must do on
// top of it.
// Each backend's test calls Run. A new backend is done when Run passes.
//
// The package also starts real redis-server processes for the tests of this module. Most
// tests share one, SharedRedis. StartRedis, StartSentinel and StartCluster are for tests
// that stop, restart or configure a server, and Proxy makes the faults of a network.
package storetest

import (
	"maps"
	"slices"
	"testing"

	"quiva.ai/mfa/store"
)

// Run checks the contract. newBackend returns a backend without entries that runs on real
// time. Each clause of store.Backend's comment is a sub-test of its name.
func Run(t *testing.T, newBackend func(t *testing.T) store.Backend) {
	for _, c := range []struct {
		name  string
		check func(*testing.T, store.Backend)
	}{
		{"Backend is safe for concurrent use", concurrentUse},
		{"Backend returns ErrUnavailable at once when the context is done", doneContext},
		{"Backend hides an entry after its ttl", ttl},
		{"Backend shares no bytes with its callers", sharesNoBytes},
		{"PutIfAbsent keeps the first value", putIfAbsent},
		{"PutIfAbsent has one winner among concurrent callers", putIfAbsentOnce},
		{"PutIfAbsent sets the deadline once", putIfAbsentDeadline},
		{"Swap writes only over what was read", swap},
		{"Swap sets and removes the deadline", swapDeadline},
		{"Swap has one winner among concurrent callers", swapOnce},
		{"Promote writes only if both entries are as they were read", promote},
		{"Promote has one winner among concurrent callers", promoteOnce},
		{"GetAll tells no entry from an empty one", getAll},
		{"Get returns ErrNotFound without an entry", getNothing},
		{"Update keeps the deadline", updateDeadline},
		{"Update does not bring an entry back", updateNothing},
		{"Delete hides the entry and is ErrNotFound the second time", remove},
		{"Walk visits the entries with the prefix", list},
		{"Walk stops at an error, and visit may write", walkEnds},
		{"Ready and Close succeed", readyAndClose},

		{"Pending gives 100 concurrent callers on two instances one secret", oneSecret},
		{"Pending keeps the deadline", absoluteDeadline},
		{"Pending never gives an account another account's secret", isolation},
		{"Pending replaces an expired secret", expiredSecret},
		{"Pending replaces an unreadable secret once", unreadableSecret},
		{"Pending replaces a damaged secret", damagedSecret},
		{"Pending opens what the old sealing key sealed", rotation},

		{"Factors has each state", factorLife},
		{"Factors confirms again with the same codes", confirmAgain},
		{"Factors replaces a factor when the next one is confirmed", enrolAgain},
		{"Factors confirms no secret that is not pending", confirmNothing},
		{"Factors judges again after a lost swap", lostSwaps},
		{"Factors accepts once and counts each failure", acceptOnce},
		{"Factors stores nothing that cannot be read back", unstorable},
		{"Factors never replaces an unreadable factor", hostileFactors},
		{"Factors refuses another store", otherStores},
		{"Factors opens what the old sealing key sealed, and seals again", initAndReseal},

		{"APIKeys finds, lists and revokes", apiKeys},
		{"APIKeys notes the hour of the last use", lastUse},
		{"APIKeys reports a damaged record", damagedAPIKey},
		{"APIKeys keeps service keys apart", serviceKeys},
		{"APIKeys finds no key after its lifetime", expiredAPIKey},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, newBackend(t)) })
	}
}

func mustList(t *testing.T, b store.Backend) map[string][]byte {
	t.Helper()
	entries, err := store.Entries(t.Context(), b, "mfa:")
	must(t, err)
	return entries
}

// onlyKey returns the key of the only entry.
func onlyKey(t *testing.T, b store.Backend) string {
	t.Helper()
	entries := mustList(t, b)
	if len(entries) != 1 {
		t.Fatalf("%d entries; want 1", len(entries))
	}
	return slices.Collect(maps.Keys(entries))[0]
}
