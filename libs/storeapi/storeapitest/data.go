package storeapitest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// Start and End bound the samples of the suite's data, Unix milliseconds, within
// one two-hour block: 2025-11-20 10:00 to just before 12:00 UTC.
const (
	Start int64 = 1_763_632_800_000
	End   int64 = Start + 7_200_000 - 1
	step  int64 = 15_000
)

// Sample is a float or, where H or FH is set, a native histogram.
type Sample struct {
	T  int64
	V  float64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

// Series is one input series: its own labels, without external ones.
type Series struct {
	Labels  labels.Labels
	Samples []Sample
}

// Data is what a store under test holds.
type Data struct {
	// External are the store's external labels.
	External labels.Labels
	// Series are sorted by their own labels.
	Series []Series
}

// Setup makes a store that holds exactly data and returns a connection to it,
// dialled with storeapi.DialOption. It stops everything in t.Cleanup. The store
// serves Store and Info.
type Setup func(t *testing.T, data Data) *grpc.ClientConn

// Append writes the data through an appender, oldest sample first, as a TSDB
// wants it, and commits.
func (d Data) Append(t testing.TB, app storage.Appender) {
	t.Helper()
	type at struct {
		lset labels.Labels
		s    Sample
	}
	var all []at
	for _, s := range d.Series {
		for _, smp := range s.Samples {
			all = append(all, at{s.Labels, smp})
		}
	}
	slices.SortStableFunc(all, func(a, b at) int { return int(a.s.T - b.s.T) })
	for _, x := range all {
		var err error
		if x.s.H != nil || x.s.FH != nil {
			_, err = app.AppendHistogram(0, x.lset, x.s.T, x.s.H, x.s.FH)
		} else {
			_, err = app.Append(0, x.lset, x.s.T, x.s.V)
		}
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
}

// floats returns n samples of a counter that starts at from.
func floats(from int64, n int, base float64) []Sample {
	out := make([]Sample, n)
	for i := range out {
		out[i] = Sample{T: from + int64(i)*step, V: base + float64(i)}
	}
	return out
}

// standardData is a small store with every shape the suite asks about.
func standardData() Data {
	d := Data{External: labels.FromStrings("cluster", "eu1", "replica", "a")}
	add := func(samples []Sample, kv ...string) {
		d.Series = append(d.Series, Series{Labels: labels.FromStrings(kv...), Samples: samples})
	}
	full := int((End - Start) / step)
	for i := range 12 {
		add(floats(Start, full, float64(1000*i)), "__name__", "http_requests_total",
			"code", []string{"200", "404", "500"}[i%3], "instance", fmt.Sprintf("host-%d", i/3), "job", "api")
	}
	add(floats(Start, full, 1), "__name__", "up", "instance", "host-0", "job", "api")
	add(floats(Start, 40, 1), "__name__", "up", "instance", "host-1", "job", "db") // first ten minutes only
	add(floats(End-40*step, 40, 7), "__name__", "late_gauge", "job", "db")
	// Prefix chains: each set is a prefix of the next, and external labels go
	// between them.
	add(floats(Start, 5, 1), "__name__", "chain")
	add(floats(Start, 5, 2), "__name__", "chain", "a", "1")
	add(floats(Start, 5, 3), "__name__", "chain", "a", "1", "d", "1")
	add(floats(Start, 5, 4), "__name__", "chain", "a", "1", "z", "1")
	add(floats(Start, 5, 5), "__name__", "chain", "b", "1", "s", "1")
	add(floats(Start, 5, 6), "__name__", "chain", "z", "1")
	add(floats(Start, 5, 7), "__name__", "ünïcode.metric", "läbel", "välue \"quoted\"\n")
	var hs, fhs []Sample
	for i := range 130 { // more than one chunk
		ts := Start + int64(i)*step
		hs = append(hs, Sample{T: ts, H: tsdbutil.GenerateTestHistogram(int64(i))})
		fhs = append(fhs, Sample{T: ts, FH: tsdbutil.GenerateTestFloatHistogram(int64(i))})
	}
	add(hs, "__name__", "latency_native", "job", "api")
	add(fhs, "__name__", "latency_native_float", "job", "api")
	d.sort()
	return d
}

// collidingData has series whose own labels clash with external and replica
// labels, so that adding and removing labels changes the order everywhere.
func collidingData() Data {
	d := Data{External: labels.FromStrings("cluster", "eu1", "replica", "a")}
	n := 0.0
	add := func(kv ...string) {
		n++
		d.Series = append(d.Series, Series{Labels: labels.FromStrings(kv...), Samples: floats(Start, 3, n)})
	}
	for _, inst := range []string{"x", "y", "z"} {
		add("__name__", "m", "cluster", "inner-"+inst, "instance", inst)
		add("__name__", "m", "instance", inst, "replica", "inner")
		add("__name__", "m", "a", "1", "host", inst, "prometheus_replica", "p-"+inst)
		add("__name__", "m", "a", inst, "prometheus_replica", "p")
	}
	add("__name__", "m")
	add("__name__", "m", "prometheus_replica", "p")
	add("__name__", "m", "zz", "1")
	d.sort()
	return d
}

func (d *Data) sort() {
	slices.SortFunc(d.Series, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
}

// extended is what the store should show for a series.
func (d Data) extended(lset labels.Labels, without []string) labels.Labels {
	b := labels.NewBuilder(lset)
	d.External.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Del(without...).Labels()
}
