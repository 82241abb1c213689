// Package triage decides what becomes of a job that failed and of the block that is to
// blame. It is pure. The ladder, from mild to grave:
//
//	retry       the bucket or the network had a bad moment, or what was read back was wrong
//	wait        pieces of a young block are missing: its upload may still be under way
//	probe       something cannot be decoded, and it is not known in which source
//	salvage     write what can be read into a new block, and record the loss
//	quarantine  nothing can be read: mark the block, and let the others go on
//
// Before anything gets here two milder things have happened already: a bad checksum was
// read a second time, and blocks that others contain were marked as outdated.
package triage

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/lease"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// Action is what to do.
type Action string

// The actions, see the package comment. Stop is for a process that has to end.
const (
	Retry      Action = "retry"
	Wait       Action = "wait"
	Probe      Action = "probe"
	Salvage    Action = "salvage"
	Quarantine Action = "quarantine"
	Stop       Action = "stop"
)

// WaitAge is how old a block has to be for missing pieces to count as lost.
const WaitAge = 48 * time.Hour

// QuarantinePrefix begins the details of marks that triage sets.
const QuarantinePrefix = "quarantine: "

// Verdict is an action, and which block it is about.
type Verdict struct {
	Action Action
	// Block is set for Wait, Salvage and Quarantine.
	Block  ulid.ULID
	Reason string
}

// Decide judges the error of a job. age tells how long ago a block was made; without it all
// blocks are old.
func Decide(err error, age func(ulid.ULID) time.Duration) Verdict {
	if age == nil {
		age = func(ulid.ULID) time.Duration { return WaitAge }
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, lease.ErrLost) || errors.Is(err, lease.ErrHeld) {
		return Verdict{Action: Stop, Reason: err.Error()}
	}
	c, ok := read.AsCorrupt(err)
	switch {
	case ok && errors.Is(c, read.ErrMissing) && age(c.Block) < WaitAge:
		return Verdict{Action: Wait, Block: c.Block, Reason: c.Error()}
	case ok && errors.Is(c, read.ErrMissing) && c.Object == block.IndexFilename:
		return Verdict{Action: Quarantine, Block: c.Block, Reason: c.Error()}
	case ok:
		return Verdict{Action: Salvage, Block: c.Block, Reason: c.Error()}
	case errors.Is(err, block.ErrCorrupt):
		return Verdict{Action: Probe, Reason: err.Error()}
	}
	return Verdict{Action: Retry, Reason: err.Error()}
}

// AfterSalvage judges the error of an attempt to salvage a block.
func AfterSalvage(id ulid.ULID, err error) Verdict {
	v := Decide(err, func(ulid.ULID) time.Duration { return WaitAge })
	switch v.Action {
	case Stop, Retry:
		return v
	}
	return Verdict{Action: Quarantine, Block: id, Reason: "nothing could be salvaged: " + err.Error()}
}

// MarkReason is the reason of the no-compact mark for a quarantined block.
func MarkReason(err string) block.Reason {
	if strings.Contains(err, "out of order") || strings.Contains(err, read.ErrUnsorted.Error()) {
		return block.ReasonIndexOutOfOrderChunk
	}
	return block.ReasonManual
}

// Backoff is how long a job that has failed n times in a row rests: a minute, doubling
// up to an hour.
func Backoff(n int) time.Duration {
	d := time.Minute << min(max(n-1, 0), 6)
	return min(d, time.Hour)
}
