package peers

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Contact is how a server was the last times it was called.
type Contact struct {
	Address string `json:"address"`
	// LastSuccess and LastFailure are zero where there was none yet; LastError is that of the last failure.
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	LastFailure time.Time `json:"lastFailure,omitzero"`
	LastError   string    `json:"lastError,omitempty"`
}

// maxContacts bounds a record: addresses that come and go are not remembered for ever.
const maxContacts = 1000

// Record keeps account of contacts. The zero value is empty; it is safe for concurrent use.
type Record struct {
	mu       sync.Mutex
	contacts map[string]*Contact // guarded by mu
}

// Note tells of a call at a time.
func (r *Record) Note(address string, at time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.contacts[address]
	if c == nil {
		if r.contacts == nil || len(r.contacts) >= maxContacts {
			r.contacts = map[string]*Contact{}
		}
		c = &Contact{Address: address}
		r.contacts[address] = c
	}
	if err == nil {
		c.LastSuccess = at
		return
	}
	c.LastFailure, c.LastError = at, err.Error()
}

// List returns what is known of the addresses, sorted.
func (r *Record) List(addresses []string) []Contact {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Contact, 0, len(addresses))
	for _, a := range addresses {
		if c := r.contacts[a]; c != nil {
			out = append(out, *c)
		} else {
			out = append(out, Contact{Address: a})
		}
	}
	slices.SortFunc(out, func(a, b Contact) int { return cmp.Compare(a.Address, b.Address) })
	return slices.CompactFunc(out, func(a, b Contact) bool { return a.Address == b.Address })
}
