// Package store answers the Store API over Prometheus' HTTP API: series by remote read, label
// sets, names and values by the endpoints of the same name.
//
// Chunks pass through as the bytes they came in. Series come in the order of Prometheus' own label
// sets and are brought into that of the extended ones while they stream. Two cases break
// that and make the answer be held, encoded, until it is sorted: see [Store.clash].
package store

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/sidecar/internal/remoteread"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

// minTime and maxTime bound what is asked for: Prometheus turns times into seconds of type float and
// back, which the largest ones do not survive. They are the begin of the year 0 and the end of 9999.
const (
	minTime int64 = -62_167_219_200_000
	maxTime int64 = 253_402_300_799_999
)

// DefaultMaxHeldBytes bounds what answers that have to be sorted hold, all together.
const DefaultMaxHeldBytes = 1 << 30

// Source says what there is to serve; *upstream.Monitor is one.
type Source interface {
	State() (upstream.State, bool)
	MinTime() int64
}

// Config bounds a Store.
type Config struct {
	// MaxHeldBytes is how much memory answers may take that cannot be streamed, all together;
	// 0 is DefaultMaxHeldBytes.
	MaxHeldBytes int64
}

// Store answers for one Prometheus. It is safe for concurrent use.
type Store struct {
	cfg    Config
	source Source
	client *promclient.Client
	reader *remoteread.Client
	logger *zap.Logger
	frames prometheus.Histogram

	held atomic.Int64
	// distrusted is until when answers are sorted whatever Prometheus says about its labels, in
	// Unix nanoseconds; see Store.outOfOrder.
	distrusted atomic.Int64
}

var _ storeapi.Store = (*Store)(nil)

// New returns a store over the Prometheus that client and reader ask. reg may be nil.
func New(cfg Config, source Source, client *promclient.Client, reader *remoteread.Client, logger *zap.Logger, reg prometheus.Registerer) *Store {
	if cfg.MaxHeldBytes <= 0 {
		cfg.MaxHeldBytes = DefaultMaxHeldBytes
	}
	return &Store{
		cfg: cfg, source: source, client: client, reader: reader, logger: logger.Named("store"),
		frames: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:    "prometheus_store_received_frames",
			Help:    "How many frames the answer to a remote read had.",
			Buckets: []float64{10, 100, 1000, 10000, 100000},
		}),
	}
}

// query is what is left of a request once the sidecar's own part is answered.
type query struct {
	state upstream.State
	// matchers are those on Prometheus' own labels.
	matchers   []*labels.Matcher
	mint, maxt int64
}

// span is the query's time range for the HTTP API.
func (q *query) span() promclient.Span {
	return promclient.Span{Start: time.UnixMilli(q.mint), End: time.UnixMilli(q.maxt)}
}

// query clips the time range to what is served and answers the matchers on external labels. It returns
// nil when these reject the request.
func (s *Store) query(mint, maxt int64, ms []*labels.Matcher) (*query, error) {
	state, ok := s.source.State()
	if !ok {
		return nil, storeapi.Unavailablef("not ready: Prometheus at %s has not answered yet", s.client.BaseURL().Redacted())
	}
	rest, ok := storeapi.MatchExternal(state.External, ms)
	if !ok {
		return nil, nil
	}
	return &query{
		state: state, matchers: rest,
		mint: max(mint, s.source.MinTime(), minTime), maxt: min(maxt, maxTime),
	}, nil
}

// empty reports whether nothing can be there to answer with, since the range lies before what is served.
func (q *query) empty() bool { return q == nil || q.mint > q.maxt }

// selector is the matchers as the HTTP API takes them: it refuses selectors that match series
// without any label, which remote read does not. Every stored series has a name.
func (q *query) selector() []*labels.Matcher {
	for _, m := range q.matchers {
		if !m.Matches("") {
			return q.matchers
		}
	}
	if len(q.matchers) == 0 {
		return nil
	}
	return append(slices.Clip(q.matchers), labels.MustNewMatcher(labels.MatchNotEqual, labels.MetricName, ""))
}

// externalNames are the names of the external labels.
func (q *query) externalNames() (names []string) {
	q.state.External.Range(func(l labels.Label) { names = append(names, l.Name) })
	return names
}

// clash reports whether series that match have a label of their own under one of the names, which then
// is overridden or removed. Without that label such series sort elsewhere, at any distance, so
// that the answer cannot be put in order while it streams. The labels that Prometheus adds to all
// series, its external ones, do no harm: they are not part of the order in which series come.
//
// The question costs little: a list of names that Prometheus has at hand, and only where a
// name is in use at all, a look for one series that matches.
func (s *Store) clash(ctx context.Context, q *query, names []string) (bool, error) {
	if time.Now().UnixNano() < s.distrusted.Load() {
		return true, nil
	}
	used, _, err := s.client.LabelNames(ctx, q.span(), 0)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if !slices.Contains(used, name) {
			continue
		}
		// Servers that do not know the limit would send all series, where one is enough.
		if !q.state.Version.AtLeast(2, 53) {
			return true, nil
		}
		has, err := labels.NewMatcher(labels.MatchNotEqual, name, "")
		if err != nil {
			return false, err
		}
		found, _, err := s.client.Series(ctx, q.span(), 1, append(slices.Clip(q.matchers), has)...)
		if err != nil {
			return false, err
		}
		if len(found) > 0 {
			return true, nil
		}
	}
	return false, nil
}
