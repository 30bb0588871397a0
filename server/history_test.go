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

// history has the responses to each account and the times when Redis may have lost data. Its
// check method has the promises to an account.
type history struct {
	mu        sync.Mutex
	responses map[string][]response
	losses    []window
	stalled   time.Duration // the longest time for which this process did not run
}

// response is one call with its time and its result.
type response struct {
	window

	status  int
	secret  string
	expires time.Time // the deadline according to the response; whole seconds
}

// window is a stretch of time.
type window struct{ begin, end time.Time }

func (w window) overlaps(begin, end time.Time) bool {
	return !w.begin.After(end) && !begin.After(w.end)
}

func newHistory() *history { return &history{responses: map[string][]response{}} }

func accountName(i int) string { return "account-" + strconv.Itoa(i) }

// drive has callers call for random accounts until ctx is done.
func (h *history) drive(ctx context.Context, instances []*instance, callers, accounts int) {
	headers := make([]http.Header, accounts)
	for i := range headers {
		headers[i] = asUser(instances[0].t, accountName(i))
	}
	var calling sync.WaitGroup
	calling.Go(func() { h.watchMachine(ctx) })
	for i := range callers {
		calling.Go(func() {
			// The pause leaves most of the machine's time to Redis.
			for pace := time.NewTicker(50 * time.Millisecond); ; {
				select {
				case <-ctx.Done():
					pace.Stop()
					return
				case <-pace.C:
				}
				account := rand.IntN(accounts)
				begin := time.Now()
				got := instances[i%len(instances)].post(headers[account])
				h.add(accountName(account), begin, got)
			}
		})
	}
	calling.Wait()
}

// watchMachine measures for how long this process did not run: its calls take longer by that.
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
	h.responses[account] = append(h.responses[account], response{
		window{begin, end}, got.status, secretPattern.FindString(got.body), end.Add(time.Duration(left) * time.Second),
	})
}

// lose notes that Redis may have lost pending secrets from begin until now.
func (h *history) lose(begin time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, window{begin, time.Now()})
}

// all returns the responses to calls that began after a time.
func (h *history) all(after time.Time) []response {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []response
	for _, responses := range h.responses {
		for _, a := range responses {
			if a.begin.After(after) {
				all = append(all, a)
			}
		}
	}
	return all
}

// slowest returns the longest time of a call.
func (h *history) slowest() time.Duration {
	var slowest time.Duration
	for _, a := range h.all(time.Time{}) {
		slowest = max(slowest, a.end.Sub(a.begin))
	}
	return slowest
}

// outage returns how many calls failed after a time and how long that lasted: from the begin
// of the first failed call to the end of the last. It is settled when calls have succeeded
// for a second.
func (h *history) outage(after time.Time) (failed int, lasted time.Duration, settled bool) {
	var first, last, latest time.Time
	for _, a := range h.all(after) {
		if a.end.After(latest) {
			latest = a.end
		}
		if a.status == http.StatusOK {
			continue
		}
		failed++
		if a.end.After(last) {
			last = a.end
		}
		if first.IsZero() || a.begin.Before(first) {
			first = a.begin
		}
	}
	return failed, last.Sub(first), latest.Sub(cmp.Or(last, after)) > time.Second
}

// check returns every broken promise and the number of lost pending secrets. The promises:
//
//   - A response is a secret, or 503.
//   - A secret belongs to one account.
//   - An account's secret changes only at its deadline, or when Redis may have lost it.
//   - A replaced secret does not come back.
//   - The deadline of a secret does not move.
func (h *history) check() (broken []string, lost int) {
	owners := map[string]string{}
	for account, responses := range h.responses {
		lives := map[string][]response{}
		for _, a := range responses {
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

// clockSlack is the error of a deadline: whole seconds and a busy machine.
const clockSlack = 2500 * time.Millisecond

// checkAccount checks the secrets of one account and counts the lost ones.
func (h *history) checkAccount(lives map[string][]response) (faults []string, lost int) {
	type life struct {
		seen    window // from the end of the first response to the begin of the last
		expires time.Time
	}
	var secrets []life
	for _, responses := range lives {
		byEnd := func(x, y response) int { return x.end.Compare(y.end) }
		byBegin := func(x, y response) int { return x.begin.Compare(y.begin) }
		byExpiry := func(x, y response) int { return x.expires.Compare(y.expires) }
		earliest, latest := slices.MinFunc(responses, byExpiry).expires, slices.MaxFunc(responses, byExpiry).expires
		if latest.Sub(earliest) > clockSlack {
			faults = append(faults, fmt.Sprintf("the deadline moved by %v", latest.Sub(earliest)))
		}
		secrets = append(secrets, life{window{slices.MinFunc(responses, byEnd).end, slices.MaxFunc(responses, byBegin).begin}, earliest})
	}
	slices.SortFunc(secrets, func(x, y life) int { return x.seen.begin.Compare(y.seen.begin) })
	for i := 1; i < len(secrets); i++ {
		old, next := secrets[i-1], secrets[i]
		if old.seen.end.After(next.seen.begin) {
			faults = append(faults, "a replaced secret came back")
		}
		if next.seen.begin.After(old.expires.Add(-clockSlack)) {
			continue // after the deadline
		}
		if !slices.ContainsFunc(h.losses, func(w window) bool { return w.overlaps(old.seen.end, next.seen.begin) }) {
			faults = append(faults, "the secret changed before its deadline")
		}
		lost++
	}
	return faults, lost
}

func TestHistory_FindsBrokenPromises(t *testing.T) {
	epoch := time.Now()
	at := func(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }
	for name, c := range map[string]struct {
		calls string // second:account:secret:seconds left, or second:account:status
		lost  int
		want  string
	}{
		"sound":                        {"0:a:S:600 1:b:T:600 2:a:S:598 3:a:503 4:a:S:596", 0, ""},
		"a status 500":                 {"0:a:500", 0, "a got 500"},
		"another's secret":             {"0:a:S:600 1:b:S:600", 0, "got a secret of"},
		"a second secret":              {"0:a:S:600 1:a:T:600", 1, "a: the secret changed before its deadline"},
		"a lost secret":                {"9:a:S:600 12:a:T:600", 1, ""},
		"a lost secret that came back": {"9:a:S:600 12:a:T:600 13:a:S:596", 1, "a: a replaced secret came back"},
		"a sliding deadline":           {"0:a:S:600 5:a:S:600", 0, "a: the deadline moved by 5s"},
		"past its deadline":            {"0:a:S:60 61:a:T:60", 0, ""},
		"before its deadline":          {"20:a:S:60 50:a:T:60", 1, "a: the secret changed before its deadline"},
	} {
		h := newHistory()
		h.losses = []window{{at(10), at(11)}}
		for call := range strings.FieldsSeq(c.calls) {
			part := strings.Split(call, ":")
			second, _ := strconv.Atoi(part[0])
			a := response{window: window{at(second), at(second)}, status: http.StatusOK, secret: part[2]}
			if len(part) == 3 {
				a.status, _ = strconv.Atoi(part[2])
			} else {
				left, _ := strconv.Atoi(part[3])
				a.expires = a.end.Add(time.Duration(left) * time.Second)
			}
			h.responses[part[1]] = append(h.responses[part[1]], a)
		}
		broken, lost := h.check()
		if got := strings.Join(broken, "\n"); lost != c.lost || got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %d lost, %q; want %d, %q", name, lost, broken, c.lost, c.want)
		}
	}
}
