// Package e2e holds the end-to-end tests: real binaries on free ports, real Prometheus servers, buckets in folders.
// They assert values, not only that something answered. What starts the processes and asks them is package harness.
//
// The binaries are those in bin/ and .bin/ at the root of the repository: `make e2e` builds both first.
package e2e
