// Package bench measures the service against what a team would write that does not use
// it: the thirty lines of package rival. Its tests are the programs `make bench`,
// `make growth` and `make overload`; they run on Linux.
//
// # What is compared
//
// Three servers, each a process as an operator starts it, its log written to /dev/null:
// Echo alone (what no service on it can go below), the thirty lines, and mfa with
// MFA_MAX_IN_FLIGHT above the number of connections. They share one real redis-server,
// which is emptied in between, and get the same requests, byte for byte, from the same
// generator: a closed loop on each connection. Every answer is checked, and a single
// wrong one fails the run.
//
// # How it is measured
//
// In rounds, A B C A B C, each time with a new process that is warmed up first: what
// drifts, drifts for all. CPU is the operating system's clock of each process; allocations
// are counted by Go's runtime and read from /metrics before and after; latencies are exact,
// not from buckets; peak memory is that of the process since its start (VmHWM).
//
// # How to read it
//
// A figure is the median of the rounds, with the least and the greatest in parentheses. A
// ratio is the median of the ratios within the rounds: below 1, mfa needs less. Ratios of
// CPU and of allocations hold elsewhere too. Requests per second and latencies are those of
// this machine, which the generator and Redis share with the server. A spread that includes
// 1 shows no difference.
//
// # Abuse and overload
//
// `make overload` runs mfa with the limits that it has without any setting. Eight good
// callers make 200 calls a second, in quiet, and in turn while others abuse the service and
// in quiet again. Each round's abuse is compared with the quiet on both sides of it, and the
// median of these ratios has a limit. The ratio of the two quiets shows how much of it is the
// machine. The abusers are a process of their own with a lower priority. Then comes a closed
// loop at capacity and twice as much in an open one; the generator takes its share of the
// processors, so that the service has less than it would. Run it on a machine that does
// nothing else.
//
//	make bench                       all scenarios, five rounds
//	make bench SCENARIO=API ROUNDS=3 those whose name matches, three rounds
package bench
