package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A history is what callers were answered, account by account, and what happened to
// Redis meanwhile. Its check is what every account may rely on.
type history struct {
	mu      sync.Mutex
	answers map[string][]answered
	losses  []window
	stalled time.Duration // the longest time for which the machine let this process wait
}

// answered is one answer: when the call began and ended, and its content.
type answered struct {
	window

	status  int
	secret  string
	expires time.Time // the deadline that the answer implies; whole seconds
}

// window is a time in which something happened.
type window struct{ begin, end time.Time }

func (w window) overlaps(begin, end time.Time) bool {
	return !w.begin.After(end) && !begin.After(w.end)
}

func newHistory() *history { return &history{answers: map[string][]answered{}} }

func accountName(i int) string { return "account-" + strconv.Itoa(i) }

// drive has callers call for accounts at random, until ctx is done.
func (h *history) drive(ctx context.Context, services []*service, callers, accounts int) {
	headers := make([]http.Header, accounts)
	for i := range headers {
		headers[i] = asUser(services[0].t, accountName(i))
	}
	var calling sync.WaitGroup
	calling.Go(func() { h.watchMachine(ctx) })
	for i := range callers {
		calling.Go(func() {
			// 20 ms apart, so that the callers do not take all the time of the machine.
			for pace := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-ctx.Done():
					pace.Stop()
					return
				case <-pace.C:
				}
				account := rand.IntN(accounts)
				begin := time.Now()
				got := services[i%len(services)].post(headers[account])
				h.add(accountName(account), begin, got)
			}
		})
	}
	calling.Wait()
}

// watchMachine measures what has to be allowed for: a process that is not run answers late.
func (h *history) watchMachine(ctx context.Context) {
	const nap = 10 * time.Millisecond
	for ctx.Err() == nil {
		begin := time.Now()
		time.Sleep(nap)
		h.mu.Lock()
		h.stalled = max(h.stalled, time.Since(begin)-nap)
		h.mu.Unlock()
	}
}

func (h *history) add(account string, begin time.Time, got reply) {
	end := time.Now()
	left, _ := strconv.Atoi(got.header.Get("Totp-Key-Expires-In")) // the contract is checked elsewhere
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[account] = append(h.answers[account], answered{
		window{begin, end}, got.status, secretPattern.FindString(got.body), end.Add(time.Duration(left) * time.Second),
	})
}

// lose notes that from begin until now Redis may have lost pending keys.
func (h *history) lose(begin time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, window{begin, time.Now()})
}

// all returns the answers that began after a time, in the order of their ends.
func (h *history) all(after time.Time) []answered {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []answered
	for _, answers := range h.answers {
		for _, a := range answers {
			if a.begin.After(after) {
				all = append(all, a)
			}
		}
	}
	slices.SortFunc(all, func(x, y answered) int { return x.end.Compare(y.end) })
	return all
}

// slowest returns the longest time that an answer took.
func (h *history) slowest() time.Duration {
	var slowest time.Duration
	for _, a := range h.all(time.Time{}) {
		slowest = max(slowest, a.end.Sub(a.begin))
	}
	return slowest
}

// outage returns how long callers saw failures after a time: from the first failed call's
// begin to the last one's end. settled tells whether it is over: nothing has failed for
// a second in which callers called.
func (h *history) outage(after time.Time) (failed int, lasted time.Duration, settled bool) {
	var first, last, latest time.Time
	for _, a := range h.all(after) {
		latest = a.end
		if a.status == http.StatusOK {
			continue
		}
		failed++
		last = a.end
		if first.IsZero() || a.begin.Before(first) {
			first = a.begin
		}
	}
	return failed, last.Sub(first), latest.Sub(cmp.Or(last, after)) > time.Second
}

// check returns every broken promise, and how many pending keys were lost:
//
//   - An answer is a key, or 503: unknown.
//   - A secret is one account's.
//   - An account's secret changes only at its deadline, or when Redis may have lost it,
//     and a secret that has been replaced does not come back.
//   - The deadline of a secret does not move.
func (h *history) check() (broken []string, lost int) {
	owners := map[string]string{}
	for account, answers := range h.answers {
		lives := map[string][]answered{}
		for _, a := range answers {
			if a.status == http.StatusServiceUnavailable {
				continue
			}
			if a.status != http.StatusOK || a.secret == "" {
				broken = append(broken, fmt.Sprintf("%s got %d", account, a.status))
				continue
			}
			if owner := cmp.Or(owners[a.secret], account); owner != account {
				broken = append(broken, fmt.Sprintf("%s got a secret of %s", account, owner))
			}
			owners[a.secret] = account
			lives[a.secret] = append(lives[a.secret], a)
		}
		faults, changes := h.checkAccount(lives)
		for _, fault := range faults {
			broken = append(broken, account+": "+fault)
		}
		lost += changes
	}
	slices.Sort(broken)
	return slices.Compact(broken), lost
}

// clockSlack is what whole seconds and a busy machine make of a deadline.
const clockSlack = 2500 * time.Millisecond

// checkAccount checks the secrets of one account, and counts those that were lost.
func (h *history) checkAccount(lives map[string][]answered) (faults []string, lost int) {
	type life struct {
		seen    window // from the end of the first answer to the begin of the last one
		expires time.Time
	}
	var secrets []life
	for _, answers := range lives {
		byEnd := func(x, y answered) int { return x.end.Compare(y.end) }
		byBegin := func(x, y answered) int { return x.begin.Compare(y.begin) }
		byExpiry := func(x, y answered) int { return x.expires.Compare(y.expires) }
		earliest, latest := slices.MinFunc(answers, byExpiry).expires, slices.MaxFunc(answers, byExpiry).expires
		if latest.Sub(earliest) > clockSlack {
			faults = append(faults, fmt.Sprintf("the deadline moved by %v", latest.Sub(earliest)))
		}
		secrets = append(secrets, life{window{slices.MinFunc(answers, byEnd).end, slices.MaxFunc(answers, byBegin).begin}, earliest})
	}
	slices.SortFunc(secrets, func(x, y life) int { return x.seen.begin.Compare(y.seen.begin) })
	for i := 1; i < len(secrets); i++ {
		old, next := secrets[i-1], secrets[i]
		if old.seen.end.After(next.seen.begin) {
			faults = append(faults, "a secret came back that had been replaced")
		}
		if next.seen.begin.After(old.expires.Add(-clockSlack)) {
			continue // its deadline was past
		}
		if !slices.ContainsFunc(h.losses, func(w window) bool { return w.overlaps(old.seen.end, next.seen.begin) }) {
			faults = append(faults, "the secret changed before its deadline")
		}
		lost++
	}
	return faults, lost
}

// TestHistoryFindsBrokenPromises shows that the check would notice.
func TestHistoryFindsBrokenPromises(t *testing.T) {
	epoch := time.Now()
	at := func(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }
	for name, c := range map[string]struct {
		calls string // second:account:secret:seconds left, or second:account:status
		lost  int
		want  string
	}{
		"sound":                {"0:a:S:600 1:b:T:600 2:a:S:598 3:a:503 4:a:S:596", 0, ""},
		"an error of ours":     {"0:a:500", 0, "a got 500"},
		"another's secret":     {"0:a:S:600 1:b:S:600", 0, "got a secret of"},
		"a second secret":      {"0:a:S:600 1:a:T:600", 1, "a: the secret changed before its deadline"},
		"a lost secret":        {"9:a:S:600 12:a:T:600", 1, ""},
		"a lost one came back": {"9:a:S:600 12:a:T:600 13:a:S:596", 1, "a: a secret came back that had been replaced"},
		"a sliding deadline":   {"0:a:S:600 5:a:S:600", 0, "a: the deadline moved by 5s"},
		"past its deadline":    {"0:a:S:60 61:a:T:60", 0, ""},
		"before its deadline":  {"20:a:S:60 50:a:T:60", 1, "a: the secret changed before its deadline"},
	} {
		h := newHistory()
		h.losses = []window{{at(10), at(11)}}
		for call := range strings.FieldsSeq(c.calls) {
			part := strings.Split(call, ":")
			second, _ := strconv.Atoi(part[0])
			a := answered{window: window{at(second), at(second)}, status: http.StatusOK, secret: part[2]}
			if len(part) == 3 {
				a.status, _ = strconv.Atoi(part[2])
			} else {
				left, _ := strconv.Atoi(part[3])
				a.expires = a.end.Add(time.Duration(left) * time.Second)
			}
			h.answers[part[1]] = append(h.answers[part[1]], a)
		}
		broken, lost := h.check()
		if got := strings.Join(broken, "\n"); lost != c.lost || got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %d lost, %q; want %d, %q", name, lost, broken, c.lost, c.want)
		}
	}
}
