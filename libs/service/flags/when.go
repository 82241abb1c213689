package flags

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
)

// When is a point in time: fixed, or an offset from the moment it is asked about.
type When struct {
	at       time.Time
	offset   time.Duration
	relative bool
}

// At returns the fixed point t.
func At(t time.Time) When { return When{at: t} }

// FromNow returns the point that lies d after the present moment, before it when d is negative.
func FromNow(d time.Duration) When { return When{offset: d, relative: true} }

// Millis returns the point as Unix milliseconds, seen from now.
func (w When) Millis(now time.Time) int64 {
	if w.relative {
		return now.Add(w.offset).UnixMilli()
	}
	return w.at.UnixMilli()
}

// Moves reports whether the point moves along with the present.
func (w When) Moves() bool { return w.relative }

// String returns the point as it is written on the command line.
func (w When) String() string {
	switch {
	case !w.relative:
		return w.at.Format(time.RFC3339Nano)
	case w.offset < 0:
		return "-" + FormatDuration(-w.offset)
	default:
		return FormatDuration(w.offset)
	}
}

// ParseWhen reads an RFC 3339 time, or a Prometheus duration relative to now that may begin with a minus.
func ParseWhen(s string) (When, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return At(t), nil
	}
	text, negative := strings.CutPrefix(s, "-")
	d, err := model.ParseDuration(text)
	if err != nil {
		return When{}, errors.New("want a time such as 2026-01-31T00:00:00Z, or a duration relative to now such as 2h or -1d")
	}
	if negative {
		d = -d
	}
	return FromNow(time.Duration(d)), nil
}

// Time binds a flag for a point in time, see ParseWhen.
func Time(fs *pflag.FlagSet, p *When, name, usage string) {
	scalar(fs, name, usage, "time|duration", p, ParseWhen, When.String)
}
