package history

import (
	"context"
	"errors"
	"hash/fnv"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/promontory-io/promontory/tools/promontory/internal/demo"
)

// scraper is what a server remembers of a target between two scrapes.
type scraper struct {
	target *demo.Target
	jitter int64 // milliseconds within the interval, so that targets are not all scraped at once
	up     labels.Labels
	upRef  storage.SeriesRef
	refs   []storage.SeriesRef // by series of the target; 0 is not known yet
	wasUp  bool
}

// commitEvery is how many scrapes of all targets go into one transaction.
const commitEvery = 40

// scrape appends what the replica sees from it.mint to it.maxt and returns the number of samples.
func scrape(ctx context.Context, to *tsdb.BlockWriter, c Config, it item, targets []*demo.Target) (samples int, err error) {
	interval := c.Interval.Milliseconds()
	scrapers := newScrapers(targets, interval)
	var app storage.Appender
	for n, round := 0, it.mint; round < it.maxt; n, round = n+1, round+interval {
		if n%commitEvery == 0 {
			if err := commit(app); err != nil {
				return samples, err
			}
			if err := ctx.Err(); err != nil {
				return samples, err
			}
			app = to.Appender(ctx)
		}
		for _, s := range scrapers {
			at := round + (s.jitter+it.replica.Offset.Milliseconds())%interval
			if at >= it.maxt || it.replica.misses(at) {
				continue
			}
			appended, err := s.scrape(app, at)
			if err != nil {
				return samples, errors.Join(err, app.Rollback())
			}
			samples += appended
		}
	}
	return samples, commit(app)
}

func commit(app storage.Appender) error {
	if app == nil {
		return nil
	}
	return app.Commit()
}

func newScrapers(targets []*demo.Target, interval int64) []*scraper {
	scrapers := make([]*scraper, 0, len(targets))
	for _, target := range targets {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(target.Instance)) // never fails
		scrapers = append(scrapers, &scraper{
			target: target,
			jitter: int64(hash.Sum64() % uint64(interval)),
			up:     labels.NewBuilder(target.Labels()).Set(labels.MetricName, "up").Labels(),
			refs:   make([]storage.SeriesRef, len(target.Series)),
		})
	}
	return scrapers
}

// scrape appends what a server would at a time: `up`, and all series while the target answers, or once a stale marker
// for each when it has stopped to.
func (s *scraper) scrape(app storage.Appender, at int64) (samples int, err error) {
	when := time.UnixMilli(at)
	isUp := s.target.Up(when)
	upValue := 0.0
	if isUp {
		upValue = 1
	}
	if s.upRef, err = app.Append(s.upRef, s.up, at, upValue); err != nil {
		return 0, err
	}
	samples = 1
	stale := !isUp && s.wasUp
	s.wasUp = isUp
	if !isUp && !stale {
		return samples, nil
	}
	for i, series := range s.target.Series {
		s.refs[i], err = appendOne(app, s.refs[i], series, when, stale)
		if err != nil {
			return samples, err
		}
		samples++
	}
	return samples, nil
}

func appendOne(app storage.Appender, ref storage.SeriesRef, series demo.Series, when time.Time, stale bool) (storage.SeriesRef, error) {
	at := when.UnixMilli()
	switch {
	case series.Histogram != nil && stale:
		return app.AppendHistogram(ref, series.Labels, at, &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}, nil)
	case series.Histogram != nil:
		return app.AppendHistogram(ref, series.Labels, at, series.Histogram(when), nil)
	case stale:
		return app.Append(ref, series.Labels, at, math.Float64frombits(value.StaleNaN))
	default:
		return app.Append(ref, series.Labels, at, series.Float(when))
	}
}
