package budget

import "syscall"

// addressSpace is the smaller one of the limits of the address space and of private writable memory; 0 for none.
func addressSpace() (limit uint64) {
	for _, which := range []int{syscall.RLIMIT_AS, syscall.RLIMIT_DATA} {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(which, &l); err == nil && (limit == 0 || l.Cur < limit) {
			limit = l.Cur
		}
	}
	return limit
}
