package budget

import (
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Source is where a memory limit comes from.
type Source string

// The sources, the first that applies counts.
const (
	// FromRuntime: GOMEMLIMIT, or what the process set instead of it.
	FromRuntime Source = "GOMEMLIMIT"
	// FromCgroup: the limit of the container.
	FromCgroup Source = "cgroup"
	// FromRlimit: the process may not have more (ulimit -v, ulimit -d).
	FromRlimit Source = "rlimit"
	// FromMachine: all memory of the machine.
	FromMachine Source = "machine"
	// FromNowhere: nothing could be read; the limit is a guess of 2 GiB.
	FromNowhere Source = "default"
)

// ProcessLimit is how many bytes this process can have: the smallest limit that anybody has set for it, or the memory of the
// machine if there is none, and who says so.
func ProcessLimit() (int64, Source) {
	limit, from := int64(math.MaxInt64), FromNowhere
	consider := func(n uint64, source Source) {
		if n > 0 && n < uint64(limit) {
			limit, from = int64(n), source
		}
	}
	consider(uint64(debug.SetMemoryLimit(-1)), FromRuntime)
	if n, err := memlimit.FromCgroup(); err == nil {
		consider(n, FromCgroup)
	}
	consider(addressSpace(), FromRlimit)
	if n, err := memlimit.FromSystem(); err == nil {
		consider(n, FromMachine)
	}
	if from == FromNowhere {
		return 2 << 30, FromNowhere
	}
	return limit, from
}

// Apply makes the garbage collector keep the process below four fifths of a limit that the kernel enforces: memory that was
// given back, but not unmapped, counts for ulimit -d, and an allocation beyond the limit ends the process. It does nothing where
// somebody has set GOMEMLIMIT, and where the limit is that of the whole machine. It reports whether it did.
func Apply(limit int64, from Source) bool {
	if from != FromCgroup && from != FromRlimit {
		return false
	}
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return false
	}
	debug.SetMemoryLimit(limit / 5 * 4)
	return true
}

// Share is the part of a process' memory that requests can have: half of what is left when fixed bytes, which are held for as long as the
// process runs (caches), and 64 MiB for the program itself are taken off; at least 16 MiB. The other half is for garbage that has yet to be
// collected, and for what the transport holds.
func Share(limit, fixed int64) int64 {
	const program, least = 64 << 20, 16 << 20
	return max((limit-max(fixed, 0)-program)/2, least)
}
