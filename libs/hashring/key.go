package hashring

import "github.com/cespare/xxhash/v2"

// Sep stands after each part of a key.
const Sep = 0xff

// Key returns the hash of a series of a tenant. Labels are name and value in turn, in the order
// in which they were received.
//
// Source: xxhash64 over tenant 0xff (name 0xff value 0xff)*.
func Key(tenant string, labels ...string) uint64 {
	b := AppendPart(make([]byte, 0, 256), tenant)
	for _, s := range labels {
		b = AppendPart(b, s)
	}
	return xxhash.Sum64(b)
}

// AppendPart appends one part of a key; the key is the xxhash64 of all parts.
func AppendPart[S ~string | ~[]byte](b []byte, part S) []byte {
	return append(append(b, part...), Sep)
}
