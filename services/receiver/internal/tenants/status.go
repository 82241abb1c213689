package tenants

import (
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

// Status is how a tenant is doing.
type Status struct {
	Tenant string
	// State is "open", "replaying", "broken" (it will be opened again) or "closed".
	State string
	// Why is the reason of a broken one.
	Why error
	// External are the labels of all its series.
	External labels.Labels
	// Series is how many are active, Blocks how many blocks are on disk.
	Series uint64
	Blocks int
	// MinTime and MaxTime are those of its samples, Unix milliseconds; both 0 where it has none or they are not known.
	MinTime, MaxTime int64
}

// Status tells how the tenant is doing; it costs nothing that grows with its data.
func (t *Tenant) Status() Status {
	s := Status{Tenant: t.name, External: t.external()}
	t.mu.RLock()
	s.State, s.Why = t.state.String(), t.why
	t.mu.RUnlock()
	_ = t.Read(func(db *tsdb.DB) error {
		h := db.Head()
		mint, maxt := h.MinTime(), h.MaxTime()
		blocks := db.Blocks()
		for _, b := range blocks {
			mint, maxt = min(mint, b.Meta().MinTime), max(maxt, b.Meta().MaxTime-1)
		}
		s.Series, s.Blocks = h.NumSeries(), len(blocks)
		if mint != math.MaxInt64 && mint <= maxt {
			s.MinTime, s.MaxTime = mint, maxt
		}
		return nil
	})
	return s
}

func (s state) String() string {
	switch s {
	case opening:
		return "replaying"
	case open:
		return "open"
	case broken:
		return "broken"
	}
	return "closed"
}
