// Package e2e holds tests and benchmarks of the receiver with real processes: routers, ingesters and a
// real Prometheus, killed, restarted and moved under load. There is nothing to import.
package e2e
