// Package faults makes a bucket fail, stall or lie on purpose. It is for tests: of one component in process, and of
// whole processes through the key "faults" of their bucket configuration.
//
// A configuration is a seed and a list of rules. Each operation is shown to the rules in their order; the rules that
// match act in that order, and the first that fails the operation ends it. All chance comes from one generator with the
// given seed, so a sequence of operations meets the same faults in each run. (Concurrent operations draw in the order in
// which they arrive, so with them the shares are reproducible, the victims are not.)
//
// The bucket counts the operations that reach it and the faults it injects, so that a test can state how many requests
// something may cost.
package faults

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/thanos-io/objstore"
)

// Operation names of rules, as in the metrics of buckets.
const (
	Iter       = objstore.OpIter // both kinds of listing
	Get        = objstore.OpGet
	GetRange   = objstore.OpGetRange
	Exists     = objstore.OpExists
	Attributes = objstore.OpAttributes
	Upload     = objstore.OpUpload
	Delete     = objstore.OpDelete
)

// Operations returns the names of all operations.
func Operations() []string { return []string{Iter, Get, GetRange, Exists, Attributes, Upload, Delete} }

// Reads returns the names of the operations that change nothing.
func Reads() []string { return []string{Iter, Get, GetRange, Exists, Attributes} }

// Kinds of error that a rule can answer with.
const (
	ErrorPlain        = "error"         // an error that no one can classify: temporary, for all the caller knows
	ErrorNotFound     = "not_found"     // IsObjNotFoundErr tells true
	ErrorAccessDenied = "access_denied" // IsAccessDeniedErr tells true
)

// Config is the value of the key "faults".
type Config struct {
	// Seed of the generator behind Share.
	Seed uint64 `yaml:"seed"`
	// Rules in the order in which they act.
	Rules []Rule `yaml:"rules"`
}

// Rule says which operations are hit and what happens to them. The zero value of each field of the first two groups
// means "no restriction"; of the last, "not this".
type Rule struct {
	// Operations that the rule is for; none: all reads (Reads).
	Operations []string `yaml:"operations"`
	// Name is a regular expression that must match somewhere in the object's name, or in the folder's for listings.
	Name string `yaml:"name"`

	// After is how many matching operations pass unharmed first.
	After int64 `yaml:"after"`
	// Every hits each n-th of those that follow: the n-th, the 2n-th, and so on.
	Every int64 `yaml:"every"`
	// Share is the probability, in (0, 1], with which each of these is hit.
	Share float64 `yaml:"share"`
	// Times is how often the rule acts at most.
	Times int64 `yaml:"times"`
	// WhileFile is a path: the rule rests, and counts nothing, unless this file exists. With it a test switches faults
	// on and off while a process runs.
	WhileFile string `yaml:"while_file"`

	// Error is the kind of error to fail with before anything is done.
	Error string `yaml:"error"`
	// Hang lets the operation wait until its context ends.
	Hang bool `yaml:"hang"`
	// Latency is waited for before the operation, or until its context ends.
	Latency time.Duration `yaml:"latency"`
	// BreakAfter lets a body fail with an error after so many bytes: read by Get and GetRange, sent by Upload. The bytes
	// before reach their destination, and upload failures leave whatever the provider leaves.
	BreakAfter *int64 `yaml:"break_after"`
	// Truncate lets a body that is read end after so many bytes as if it were complete.
	Truncate *int64 `yaml:"truncate"`
	// ShortReads is the most bytes that one Read of a body gives: legal, but rare in reality.
	ShortReads int `yaml:"short_reads"`
}

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	for i, r := range c.Rules {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("rule %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func (r Rule) validate() error {
	var errs []error
	for _, op := range r.Operations {
		if !slices.Contains(Operations(), op) {
			errs = append(errs, fmt.Errorf("unknown operation %q (known: %s)", op, strings.Join(Operations(), ", ")))
		}
	}
	if _, err := regexp.Compile(r.Name); err != nil {
		errs = append(errs, fmt.Errorf("name: %w", err))
	}
	if r.Share < 0 || r.Share > 1 || r.Share != r.Share {
		errs = append(errs, fmt.Errorf("share %v is not between 0 and 1", r.Share))
	}
	if r.After < 0 || r.Every < 0 || r.Times < 0 || r.Latency < 0 || r.ShortReads < 0 ||
		(r.BreakAfter != nil && *r.BreakAfter < 0) || (r.Truncate != nil && *r.Truncate < 0) {
		errs = append(errs, errors.New("a count, size or latency is negative"))
	}
	switch r.Error {
	case "", ErrorPlain, ErrorNotFound, ErrorAccessDenied:
	default:
		errs = append(errs, fmt.Errorf("unknown error %q (known: %s, %s, %s)", r.Error, ErrorPlain, ErrorNotFound, ErrorAccessDenied))
	}
	if r.Error == "" && !r.Hang && r.Latency == 0 && r.BreakAfter == nil && r.Truncate == nil && r.ShortReads == 0 {
		errs = append(errs, errors.New("does nothing: set error, hang, latency, break_after, truncate or short_reads"))
	}
	return errors.Join(errs...)
}
