// Package promapi is the server side of the Prometheus HTTP API: parameters in, JSON out.
//
// Parameters come as typed values with the error texts that clients of Prometheus and Thanos know
// ([ParseForm] and the methods of [Form]). Answers are streamed: [Respond] appends each value
// straight to a small buffer that is flushed to the writer, so an answer is never built a second
// time in memory. What it writes is equal, byte for byte, to what Prometheus' own codec writes.
//
// The JSON shapes of the answers that are plain structs (rules, targets, metadata, …) are in the
// sub-package promtypes, the client for a Prometheus server is in promclient.
//
// CORS, compression, metrics and tracing belong to whoever serves the handlers.
package promapi
