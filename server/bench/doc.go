// Package bench measures what the service costs and how much it carries. Its tests are
// the programs `make bench`, `make growth` and `make overload`; they run on Linux.
//
// Each program starts servers as an operator starts them, sends them requests over real
// connections, and has them use a real Redis. Every response is checked: a single wrong
// one fails the run. The programs print tables; README.md says how to read them.
package bench
