package main

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// BenchmarkVerify_Timing compares the times of verify's refusals over HTTP and a real Redis: the calls
// take turns, so that the machine's load is the same for all. It reports each median, in µs, and for the
// noise the distance of the quartiles of the wrong code. "wrong-again" differs from "wrong" by noise only.
// A wrong code takes one Redis command more: the failure is written before the response.
func BenchmarkVerify_Timing(b *testing.B) {
	redis := storetest.SharedRedis(b)
	s := startInstance(b, testEnviron(redis))
	service := http.Header{"X-Service-Key": {s.newServiceKey()}}
	factors, accounts := factorsOf(b, redis.URL), map[string]string{}
	for _, account := range []string{"wrong", "replayed", "locked", "off"} {
		accounts[account] = s.enrol(asUser(b, account))
	}
	change := func(account string, f func(store.Factor) store.Factor) {
		if _, err := factors.Change(b.Context(), account, func(factor store.Factor) (store.Factor, error) { return f(factor), nil }); err != nil {
			b.Fatal(err)
		}
	}
	change("locked", func(f store.Factor) store.Factor { f.TOTP.Recent = 100; return f })
	change("off", func(f store.Factor) store.Factor { return f.SetEnabled(false) })
	wrong := verify("wrong", wrongCodes(b, accounts["wrong"], 1)[0])
	calls := []struct {
		name, want string
		call
	}{
		{"wrong", "wrong_code", wrong}, {"wrong-again", "wrong_code", wrong},
		{"replayed", "replayed", verify("replayed", codesAt(b, accounts["replayed"], 0, 0)[0])},
		{"locked", "locked", verify("locked", codesAt(b, accounts["locked"], 1, 1)[0])},
		{"not-enrolled", "not_enrolled", verify("off", "123456")}, {"unknown", "not_enrolled", verify("unknown", "123456")},
	}
	times := make([][]time.Duration, len(calls))
	for n := 0; b.Loop(); n++ {
		for i := range calls {
			i = (i + n) % len(calls)
			change("wrong", store.Factor.Unlock)
			start := time.Now()
			got := s.call(calls[i].call, service)
			times[i] = append(times[i], time.Since(start))
			if got.result() != calls[i].want {
				b.Fatalf("%s = %d %s; want %s", calls[i].name, got.status, got.body, calls[i].want)
			}
		}
	}
	quantile := func(i, percent int) float64 {
		slices.Sort(times[i])
		return float64(times[i][len(times[i])*percent/100].Nanoseconds()) / 1000
	}
	for i, c := range calls {
		b.ReportMetric(quantile(i, 50), c.name+"-µs")
		b.Logf("%-12s p25 %4.0f, median %4.0f, p75 %4.0f µs", c.name, quantile(i, 25), quantile(i, 50), quantile(i, 75))
	}
	b.ReportMetric(quantile(0, 75)-quantile(0, 25), "noise-µs")
}
