// Package telemetry has the three views that operators have of the service: log, metrics and
// traces.
//
// It has three rules:
//
//   - The log has one line for each request. An operation adds its audit event to that line
//     with Audit; a line with an event is written whatever the log level is.
//   - Text that a client or another program wrote is sanitized before it is logged.
//   - Labels of metrics and attributes of spans are names of ours: operations, statuses,
//     outcomes, causes. No account, credential, secret, address or error text is among them.
package telemetry
