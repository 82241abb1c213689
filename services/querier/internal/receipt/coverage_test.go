package receipt_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

func gap(addr, component string, mint, maxt int64, lset ...string) receipt.Gap {
	return receipt.Gap{Addr: addr, Component: component, Labels: labels.FromStrings(lset...), MinTime: mint, MaxTime: maxt, Reason: "x"}
}

func held(addr, component string, mint, maxt int64, lset ...string) receipt.Holding {
	return receipt.Holding{Addr: addr, Component: component, Labels: labels.FromStrings(lset...), MinTime: mint, MaxTime: maxt}
}

func show(gaps []receipt.Gap) (out []string) {
	for _, g := range gaps {
		out = append(out, fmt.Sprintf("%s %s %d-%d %v", g.Addr, g.Labels, g.MinTime, g.MaxTime, g.CoveredBy))
	}
	return out
}

func TestOnlyWhatSurelyIsACopyCovers(t *testing.T) {
	t.Parallel()
	replica := []string{"replica"}
	for name, tc := range map[string]struct {
		gaps     []receipt.Gap
		holdings []receipt.Holding
		replica  []string
		want     []string
	}{
		"a replica": {
			gaps:     []receipt.Gap{gap("a", "sidecar", 10, 20, "c", "1", "replica", "a")},
			holdings: []receipt.Holding{held("b", "sidecar", 0, 99, "c", "1", "replica", "b"), held("z", "sidecar", 0, 99, "c", "2", "replica", "b")},
			replica:  replica, want: []string{`a {c="1", replica="a"} 10-20 [b]`},
		},
		"a replica that is wanted for itself": {
			gaps:     []receipt.Gap{gap("a", "sidecar", 10, 20, "c", "1", "replica", "a")},
			holdings: []receipt.Holding{held("b", "sidecar", 0, 99, "c", "1", "replica", "b")},
			want:     []string{`a {c="1", replica="a"} 10-20 []`},
		},
		"a part of the time": {
			gaps:     []receipt.Gap{gap("a", "sidecar", 10, 20, "replica", "a")},
			holdings: []receipt.Holding{held("b", "sidecar", 0, 12, "replica", "b"), held("c", "store", 11, 15, "replica", "c")},
			replica:  replica,
			want:     []string{`a {replica="a"} 10-10 [b]`, `a {replica="a"} 11-12 [b c]`, `a {replica="a"} 13-15 [c]`, `a {replica="a"} 16-20 []`},
		},
		"its own blocks": {
			gaps:     []receipt.Gap{gap("a", "sidecar", 10, 20, "replica", "a")},
			holdings: []receipt.Holding{held("g", "store", 0, 14, "replica", "a")},
			want:     []string{`a {replica="a"} 10-14 [g]`, `a {replica="a"} 15-20 []`},
		},
		"blocks shared among gateways": {
			gaps:     []receipt.Gap{gap("g1", "store", 10, 20, "replica", "a")},
			holdings: []receipt.Holding{held("g2", "store", 0, 99, "replica", "a"), held("s", "sidecar", 0, 99, "replica", "a")},
			replica:  replica, want: []string{`g1 {replica="a"} 10-20 []`},
		},
		"a replica's blocks that may be missing too": {
			gaps:     []receipt.Gap{gap("g1", "store", 10, 20, "replica", "a"), gap("g1", "store", 10, 20, "replica", "b")},
			holdings: []receipt.Holding{held("g2", "store", 0, 99, "replica", "b")},
			replica:  replica, want: []string{`g1 {replica="a"} 10-20 []`, `g1 {replica="b"} 10-20 []`},
		},
		"a replica's blocks of which none is missing": {
			gaps:     []receipt.Gap{gap("g1", "store", 10, 20, "replica", "a")},
			holdings: []receipt.Holding{held("g2", "store", 0, 99, "replica", "b")},
			replica:  replica, want: []string{`g1 {replica="a"} 10-20 [g2]`},
		},
		"receivers hold shares": {
			gaps:     []receipt.Gap{gap("r1", "receive", 10, 20, "replica", "a")},
			holdings: []receipt.Holding{held("r2", "receive", 0, 99, "replica", "b")},
			replica:  replica, want: []string{`r1 {replica="a"} 10-20 []`},
		},
		"nobody knows what it has": {
			gaps:     []receipt.Gap{gap("q", "unknown-store-api", 10, 20)},
			holdings: []receipt.Holding{held("s", "sidecar", 0, 99)},
			replica:  replica, want: []string{`q {} 10-20 []`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, show(receipt.Cover(tc.gaps, tc.holdings, tc.replica)))
		})
	}
}

func TestCoverNeitherLosesNorAddsAMillisecond(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		g := gap("a", "sidecar", 1+r.Int64N(20), 0, "replica", "a")
		g.MaxTime = g.MinTime + r.Int64N(30)
		var holdings []receipt.Holding
		for i := range r.IntN(5) {
			from := r.Int64N(50)
			holdings = append(holdings, held(fmt.Sprint("h", i), "sidecar", from, from+r.Int64N(20), "replica", fmt.Sprint("h", i)))
		}
		at := g.MinTime
		for _, part := range receipt.Cover([]receipt.Gap{g}, holdings, []string{"replica"}) {
			require.Equal(t, at, part.MinTime, "seed %d", seed)
			at = part.MaxTime + 1
			for ms := part.MinTime; ms <= part.MaxTime; ms++ {
				var want []string
				for _, h := range holdings {
					if h.MinTime <= ms && ms <= h.MaxTime {
						want = append(want, h.Addr)
					}
				}
				require.ElementsMatch(t, want, part.CoveredBy, "seed %d at %d", seed, ms)
			}
		}
		require.Equal(t, g.MaxTime+1, at, "seed %d", seed)
	}
}
