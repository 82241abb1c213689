// Package lease keeps two compactors from working on the same blocks by mistake.
//
// A lease is an object in the bucket that names its holder and is written anew, with a
// higher number, every third of its term. Who wants it and finds somebody else's watches
// it for a whole term by its own clock: only if the number stays the same the holder is
// gone. Clocks are never compared. Who then takes it over writes its own name, waits a
// moment and reads it back, because buckets know no compare-and-swap: of two that do so
// at once the last writer wins, and both see it.
//
// This is a guard against mistakes, not a lock: a holder that is cut off from the bucket
// notices at the end of its term and stops on its own.
package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
)

const (
	// DefaultTerm is how long a lease lives without renewal.
	DefaultTerm = time.Minute
	dir         = "promontory/lease"
	maxBytes    = 1 << 16
)

var (
	// ErrHeld says that another compactor works on these blocks.
	ErrHeld = errors.New("another compactor holds the lease")
	// ErrLost says that the lease was held and is not any more. Stop working.
	ErrLost = errors.New("the lease is lost")
)

// Record is the content of the object.
type Record struct {
	// Holder is unique to a process.
	Holder string `json:"holder"`
	// Host is for people.
	Host string `json:"host"`
	// Number grows with each renewal.
	Number uint64 `json:"number"`
	// TermSeconds is how long the holder may be silent.
	TermSeconds float64 `json:"term_seconds"`
	// RenewedAt is for people: clocks are not compared.
	RenewedAt time.Time `json:"renewed_at"`
}

// Config is what a lease depends on.
type Config struct {
	// Name tells leases of different shares of a bucket apart.
	Name string
	// Term is DefaultTerm where it is 0.
	Term time.Duration
	// Settle is how long to wait before reading back; a tenth of the term where it is 0.
	Settle time.Duration
}

// Lease is one process' claim. Safe for concurrent use.
type Lease struct {
	logger *zap.Logger
	bkt    objstore.Bucket
	cfg    Config
	holder string

	mu      sync.Mutex // guards what follows
	number  uint64
	until   time.Time // held up to here; zero: not held
	lost    bool
	blocker string
}

// New returns a lease that is not held yet.
func New(logger *zap.Logger, bkt objstore.Bucket, cfg Config) *Lease {
	if cfg.Term <= 0 {
		cfg.Term = DefaultTerm
	}
	if cfg.Settle <= 0 {
		cfg.Settle = cfg.Term / 10
	}
	return &Lease{logger: logger.Named("lease"), bkt: bkt, cfg: cfg, holder: rand.Text()}
}

// Object is the name of the lease's object.
func (l *Lease) Object() string { return dir + "/compactor-" + l.cfg.Name + ".json" }

// Check returns nil while the lease is held, else ErrHeld or ErrLost.
func (l *Lease) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lost:
		return ErrLost
	case l.until.IsZero():
		if l.blocker != "" {
			return fmt.Errorf("%w: %s", ErrHeld, l.blocker)
		}
		return ErrHeld
	case !time.Now().Before(l.until):
		return fmt.Errorf("%w: it could not be renewed for %s", ErrLost, l.cfg.Term)
	}
	return nil
}

// Acquire takes the lease. If somebody else has it, it waits one term for a sign of life,
// and returns ErrHeld with the holder's name if there is one.
func (l *Lease) Acquire(ctx context.Context) error {
	seen, found, err := l.read(ctx)
	if err != nil {
		return err
	}
	if found && seen.Holder != l.holder {
		l.logger.Info("waiting for a sign of life of the compactor that holds the lease",
			zap.String("holder", seen.Host), zap.Time("renewed_at", seen.RenewedAt))
		if err := l.watch(ctx, seen); err != nil {
			return err
		}
	}
	number := seen.Number + 1
	begin := time.Now()
	if err := l.write(ctx, number); err != nil {
		return err
	}
	if err := sleep(ctx, l.cfg.Settle); err != nil {
		return err
	}
	back, found, err := l.read(ctx)
	if err != nil {
		return err
	}
	if !found || back.Holder != l.holder {
		return l.held(back)
	}
	l.mu.Lock()
	l.number, l.until, l.lost, l.blocker = number, begin.Add(l.cfg.Term), false, ""
	l.mu.Unlock()
	l.logger.Info("lease taken", zap.String("object", l.Object()))
	return nil
}

// watch returns nil when the record does not change for its term.
func (l *Lease) watch(ctx context.Context, seen Record) error {
	term := max(l.cfg.Term, time.Duration(seen.TermSeconds*float64(time.Second)))
	deadline := time.Now().Add(term)
	for time.Now().Before(deadline) {
		if err := sleep(ctx, min(term/10, time.Until(deadline)+time.Millisecond)); err != nil {
			return err
		}
		now, found, err := l.read(ctx)
		if err != nil {
			return err
		}
		if !found {
			return nil
		}
		if now.Holder != seen.Holder || now.Number != seen.Number {
			return l.held(now)
		}
	}
	return nil
}

func (l *Lease) held(by Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocker = fmt.Sprintf("%s on host %s, last seen %s", by.Holder, by.Host, by.RenewedAt.UTC().Format(time.RFC3339))
	return fmt.Errorf("%w: %s (object %s); let different compactors have different selectors, or stop one", ErrHeld, l.blocker, l.Object())
}

// Keep renews the lease until ctx is over, and gives it back then. It returns ErrLost
// when somebody else has taken it, or when it could not be renewed for a term.
func (l *Lease) Keep(ctx context.Context) error {
	for {
		if err := sleep(ctx, l.cfg.Term/3); err != nil {
			return l.release(context.WithoutCancel(ctx))
		}
		if err := l.renew(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, ErrLost) {
				return err
			}
			l.logger.Warn("lease could not be renewed", zap.Error(err))
			if err := l.Check(); err != nil {
				return err
			}
		}
	}
}

func (l *Lease) renew(ctx context.Context) error {
	begin := time.Now()
	seen, found, err := l.read(ctx)
	if err != nil {
		return err
	}
	if found && seen.Holder != l.holder {
		l.mu.Lock()
		l.lost, l.blocker = true, seen.Host
		l.mu.Unlock()
		return fmt.Errorf("%w: %s on host %s has taken it", ErrLost, seen.Holder, seen.Host)
	}
	l.mu.Lock()
	l.number++
	n := l.number
	l.mu.Unlock()
	if err := l.write(ctx, n); err != nil {
		return err
	}
	l.mu.Lock()
	l.until = begin.Add(l.cfg.Term)
	l.mu.Unlock()
	return nil
}

// release removes the object if it is still ours.
func (l *Lease) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	l.mu.Lock()
	l.until = time.Time{}
	l.mu.Unlock()
	seen, found, err := l.read(ctx)
	if err != nil || !found || seen.Holder != l.holder {
		return nil // it runs out by itself
	}
	if err := l.bkt.Delete(ctx, l.Object()); err != nil {
		l.logger.Warn("lease could not be given back and will run out", zap.Error(err))
	}
	return nil
}

// Release gives the lease back, for who does not run Keep.
func (l *Lease) Release(ctx context.Context) error { return l.release(context.WithoutCancel(ctx)) }

func (l *Lease) read(ctx context.Context) (Record, bool, error) {
	rc, err := l.bkt.Get(ctx, l.Object())
	if err != nil {
		if l.bkt.IsObjNotFoundErr(err) {
			return Record{}, false, nil
		}
		return Record{}, false, fmt.Errorf("read lease: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(rc, maxBytes))
	if err = errors.Join(err, rc.Close()); err != nil {
		return Record{}, false, fmt.Errorf("read lease: %w", err)
	}
	var r Record
	if err := json.Unmarshal(content, &r); err != nil {
		// Nobody can hold what cannot be read; watching it shows whether it changes.
		l.logger.Warn("lease cannot be parsed", zap.Error(err))
		return Record{Host: "unknown"}, true, nil
	}
	return r, true, nil
}

func (l *Lease) write(ctx context.Context, number uint64) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	content, err := json.Marshal(Record{Holder: l.holder, Host: host, Number: number, TermSeconds: l.cfg.Term.Seconds(), RenewedAt: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	if err := l.bkt.Upload(ctx, l.Object(), bytes.NewReader(content)); err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
