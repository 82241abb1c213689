//go:build !linux

package budget

// addressSpace is the limit of the address space; 0 for none is known.
func addressSpace() uint64 { return 0 }
