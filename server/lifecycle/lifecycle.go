// Package lifecycle starts, watches, reloads and stops the program's servers. It does not
// depend on the API or its operations.
//
// A stop begins with SIGTERM or SIGINT and has three steps:
//
//  1. /readyz answers 503, and each response asks its client to close the connection.
//     Requests are still served for MFA_DRAIN, so that gateways have time to notice.
//  2. Connections are no longer accepted, idle connections are closed, and requests in
//     flight finish within MFA_STOP_TIMEOUT.
//  3. The admin listener closes, and the program ends.
//
// A second signal ends the program at once. The supervisor kills a program that hangs.
package lifecycle
