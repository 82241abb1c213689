package frontend

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi"
)

// late hands samples out only a while after their own time, which differs from series to series.
type late struct {
	storage.Queryable

	now     func() time.Time
	longest time.Duration
}

func (l late) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := l.Queryable.Querier(mint, maxt)
	return lateQuerier{q, l}, err
}

type lateQuerier struct {
	storage.Querier

	late late
}

func (q lateQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return lateSet{q.Querier.Select(ctx, sorted, hints, ms...), q.late}
}

type lateSet struct {
	storage.SeriesSet

	late late
}

func (s lateSet) At() storage.Series {
	one := s.SeriesSet.At()
	sum := fnv.New64()
	_, _ = sum.Write([]byte(one.Labels().String()))
	delay := time.Duration(sum.Sum64() % uint64(s.late.longest))
	return lateSeries{one, s.late.now().Add(-delay).UnixMilli()}
}

func (s lateSet) Warnings() annotations.Annotations { return s.SeriesSet.Warnings() }

type lateSeries struct {
	storage.Series

	until int64
}

func (s lateSeries) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return &lateIterator{Iterator: s.Series.Iterator(nil), until: s.until}
}

type lateIterator struct {
	chunkenc.Iterator

	until int64
}

func (it *lateIterator) Next() chunkenc.ValueType { return it.arrived(it.Iterator.Next()) }

func (it *lateIterator) Seek(t int64) chunkenc.ValueType { return it.arrived(it.Iterator.Seek(t)) }

func (it *lateIterator) arrived(v chunkenc.ValueType) chunkenc.ValueType {
	if v != chunkenc.ValNone && it.AtT() > it.until {
		return chunkenc.ValNone
	}
	return v
}

// trouble makes the querier fail in random ways. It is used by many goroutines.
type trouble struct {
	t  *testing.T
	up *upstream

	mu     sync.Mutex // guards what follows
	random *rand.Rand
	often  int // in percent
	hit    int
}

func (f *trouble) draw() (kind, seed int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.random.IntN(100) >= f.often {
		return 0, 0, false
	}
	f.hit++
	return f.random.IntN(7), f.random.Int(), true
}

// begin sets how often requests fail from now on, and forgets what was.
func (f *trouble) begin(percent int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.often, f.hit = percent, 0
}

func (f *trouble) hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// before is for upstream.fault.
func (f *trouble) before(w http.ResponseWriter, r *http.Request) (done bool) {
	kind, seed, ok := f.draw()
	if !ok {
		return false
	}
	notes := promapi.Notes{}
	switch kind {
	case 0:
		http.Error(w, "down", http.StatusBadGateway)
		return true
	case 1:
		_ = promapi.RespondError(w, promapi.NewError(promapi.ErrorExecution, fmt.Errorf("a store is gone")))
		return true
	case 2:
		// An answer that breaks off.
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"`)
		return true
	case 3:
		notes.Infos = []string{"a store is slow"}
	case 4:
		// The header alone says it.
		w.Header().Set("Cache-Control", "no-store")
	default:
		notes.Warnings = []string{"endpoint a:1: gone"}
	}
	data, _, err := f.up.answer(r)
	if err != nil {
		_ = promapi.RespondError(w, err)
		return true
	}
	_ = promapi.Respond(w, less(data, rand.New(rand.NewPCG(uint64(seed), 1))), notes)
	return true
}

// less is the answer of which something is missing.
func less(data promapi.Data, r *rand.Rand) promapi.Data {
	switch data := data.(type) {
	case *promapi.QueryData:
		m, ok := data.Result.(promql.Matrix)
		if !ok {
			return data
		}
		var out promql.Matrix
		for _, s := range m {
			if r.IntN(2) == 0 && len(s.Floats) > 1 {
				s.Floats = s.Floats[len(s.Floats)/2:]
				out = append(out, s)
			}
		}
		return &promapi.QueryData{Result: out}
	case promapi.Strings:
		return data[:len(data)/2]
	}
	return data
}

func TestWhatIsIncompleteOrTooYoungIsNeverServedForMore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 77))
			h := newHouse(t).cached()
			fresh := time.Duration(1+random.IntN(20)) * time.Minute
			h.cfg.Range.MaxFreshness, h.cfg.Labels.MaxFreshness = fresh, fresh
			h.cfg.VerticalShards = []int{0, 2}[seed%2]
			h.up.storage = late{h.up.storage, func() time.Time { return h.now }, fresh}
			h.build()
			bare := &upstream{t: t, engine: h.up.engine, storage: h.up.storage}
			faults := &trouble{t: t, up: bare, random: rand.New(rand.NewPCG(seed, 78))}
			h.up.fault(faults.before)
			flagged, whole, refused := 0, 0, 0
			h.now = time.Unix(3000, 0)
			for range 150 {
				h.now = h.now.Add(time.Duration(random.IntN(170)) * time.Second)
				faults.begin([]int{0, 5, 40}[random.IntN(3)])
				path, params := question(random)
				got := ask(t, h.fe, path, params...)
				switch {
				case got.Code != http.StatusOK:
					require.Positive(t, faults.hits(), "%s", got.Body)
					refused++
				case remarked(t, got):
					require.Positive(t, faults.hits(), "%v: nothing is missing", params)
					flagged++
				default:
					// All there is at this moment, whatever was answered before.
					require.JSONEq(t, ask(t, bare, path, params...).Body.String(), got.Body.String(), "%s %v at %s", path, params, h.now)
					require.Zero(t, faults.hits(), "%v: something failed", params)
					whole++
				}
			}
			require.Positive(t, flagged)
			require.Positive(t, refused)
			require.Greater(t, whole, 40)
		})
	}
}

// remarked tells whether an answer says that something is missing from it: by its header, or by a note that is not the engine's,
// which is all that comes where the answer of the querier is passed on as it is.
func remarked(t *testing.T, w *httptest.ResponseRecorder) bool {
	t.Helper()
	var notes struct{ Warnings, Infos []string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &notes))
	return noStore(w.Header()) || !harmless(notes.Warnings) || !harmless(notes.Infos)
}

// question is a request whose answer may partly be known.
func question(random *rand.Rand) (path string, params []string) {
	if random.IntN(6) == 0 {
		start := random.IntN(9000)
		span := []string{"start", fmt.Sprint(start), "end", fmt.Sprint(start + random.IntN(6000))}
		return []string{"labels", "label/job/values"}[random.IntN(2)], span
	}
	step := []int{15, 60, 300, 600}[random.IntN(4)]
	start := random.IntN(9000) / step * step
	expr := []string{
		`requests_total`, `sum by (job) (rate(requests_total[5m]))`, `temperature`, `max_over_time(temperature[30m:5m])`, `ver offset 10m`,
		`sum by (job) (errors_total offset -5m)`, `requests_total @ 9000`, `timestamp(errors_total)`,
	}[random.IntN(8)]
	return "query_range", []string{
		"query", expr, "start", fmt.Sprint(start), "end", fmt.Sprint(start + random.IntN(6000)), "step", fmt.Sprint(step),
	}
}
