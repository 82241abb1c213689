// Package quorum decides from the answers of replicas what became of each series of a write.
//
// It is pure: answers go in, in any order, and a decision comes out as soon as no further answer can
// change it.
package quorum

import "github.com/promontory-io/promontory/services/receiver/internal/verdict"

// Needed is how many replicas have to have a series before it is acknowledged. Two replicas need one: that is
// as it always was, and senders rely on it.
func Needed(replicas int) int {
	if replicas <= 2 {
		return 1
	}
	return replicas/2 + 1
}

// Tally counts the answers for the series of one write. It is not for concurrent use.
type Tally struct {
	replicas, needed uint8
	cells            []cell
	open             int
}

type cell struct {
	ok      uint8
	held    uint8
	failed  [verdict.Kinds]uint8
	outcome verdict.Kind
	decided bool
}

// New returns a tally for a number of series, each with the same number of replicas, at most 255.
func New(series, replicas, needed int) *Tally {
	return &Tally{replicas: uint8(replicas), needed: uint8(needed), cells: make([]cell, series), open: series}
}

// Settle decides a series without any answer: it was refused before it was sent.
func (t *Tally) Settle(series uint32, k verdict.Kind) {
	if c := &t.cells[series]; !c.decided {
		t.decide(c, k)
	}
}

// Add counts the answer of one replica for a series.
func (t *Tally) Add(series uint32, k verdict.Kind) {
	c := &t.cells[series]
	if c.decided {
		return
	}
	if k == verdict.OK {
		c.ok++
	} else {
		c.failed[k]++
	}
	if out, ok := t.outcome(c); ok {
		t.decide(c, out)
	}
}

// Hold sets the replica of a series aside: it could not be had now, and may be asked again. It counts
// neither way until Release takes that back, after which its answer is awaited as it was before.
func (t *Tally) Hold(series uint32) { t.cells[series].held++ }

// Release takes one Hold back.
func (t *Tally) Release(series uint32) { t.cells[series].held-- }

// Needs reports whether a series cannot be written any more unless a replica that is held is asked
// again.
func (t *Tally) Needs(series uint32) bool {
	c := &t.cells[series]
	if c.decided || c.held == 0 {
		return false
	}
	lost := c.held
	for _, n := range c.failed {
		lost += n
	}
	return t.replicas-lost < t.needed
}

func (t *Tally) decide(c *cell, k verdict.Kind) {
	c.decided, c.outcome = true, k
	t.open--
}

// outcome is what the answers so far amount to, and false while it is open.
func (t *Tally) outcome(c *cell) (verdict.Kind, bool) {
	if c.ok >= t.needed {
		return verdict.OK, true
	}
	// With that many failures there can be no success. They have to agree, though, for the sender
	// to be told not to try again.
	enough := t.replicas - t.needed + 1
	invalid, conflict := c.failed[verdict.Invalid], c.failed[verdict.Conflict]
	limit, unavailable := c.failed[verdict.Limit], c.failed[verdict.Unavailable]
	switch {
	case invalid+conflict >= enough:
		if invalid > conflict {
			return verdict.Invalid, true
		}
		return verdict.Conflict, true
	case limit >= enough:
		return verdict.Limit, true
	case unavailable >= enough:
		return verdict.Unavailable, true
	case c.ok+invalid+conflict+limit+unavailable == t.replicas:
		return verdict.Unavailable, true
	}
	return verdict.OK, false
}

// Decided reports whether no answer can change anything any more.
func (t *Tally) Decided() bool { return t.open == 0 }

// Outcome is what became of a series; one that is not decided is not available.
func (t *Tally) Outcome(series uint32) verdict.Kind {
	if c := &t.cells[series]; c.decided {
		return c.outcome
	}
	return verdict.Unavailable
}
