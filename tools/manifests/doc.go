// Package manifests proves what deploy/ says: that every overlay and component renders, that the Kubernetes API would
// take it, and that every container's argument list starts our real program until its readiness probe answers.
//
// Its tests need the programs of `make build`, `make peers` and `make manifest-tools`; `make manifests-check` runs them.
package manifests
