package store

import (
	"sort"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promontory-io/promontory/libs/chunks"
)

// sizes is a histogram by tenant that takes many observations at once: one for each
// chunk of an answer would cost more than sending the chunk.
type sizes struct {
	desc    *prometheus.Desc
	buckets []float64

	mu       sync.Mutex // guards byTenant
	byTenant map[string]*sizeCounts
}

type sizeCounts struct {
	counts []uint64 // by bucket, the last for what is above all of them
	sum    float64
}

var _ prometheus.Collector = (*sizes)(nil)

func newSizes(name, help string, buckets []float64) *sizes {
	return &sizes{
		desc: prometheus.NewDesc(name, help, []string{"tenant"}, nil), buckets: buckets,
		byTenant: map[string]*sizeCounts{},
	}
}

// Describe implements prometheus.Collector.
func (s *sizes) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

// Collect implements prometheus.Collector.
func (s *sizes) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tenant, c := range s.byTenant {
		cumulative := make(map[float64]uint64, len(s.buckets))
		var n uint64
		for i, b := range s.buckets {
			n += c.counts[i]
			cumulative[b] = n
		}
		n += c.counts[len(s.buckets)]
		ch <- prometheus.MustNewConstHistogram(s.desc, n, c.sum, cumulative, tenant)
	}
}

// sizeBatch gathers observations for one tenant. It serves one goroutine.
type sizeBatch struct {
	s      *sizes
	tenant string
	sizeCounts
}

func (s *sizes) batch(tenant string) *sizeBatch {
	return &sizeBatch{s: s, tenant: tenant, sizeCounts: sizeCounts{counts: make([]uint64, len(s.buckets)+1)}}
}

// add observes the size of a chunk, all its aggregates together.
func (b *sizeBatch) add(c *chunks.AggrChunk) {
	n := len(c.Raw.Data)
	if c.Aggr != nil {
		for i := range c.Aggr {
			n += len(c.Aggr[i].Data)
		}
	}
	b.counts[sort.SearchFloat64s(b.s.buckets, float64(n))]++
	b.sum += float64(n)
}

// flush makes the observations visible.
func (b *sizeBatch) flush() {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	c := b.s.byTenant[b.tenant]
	if c == nil {
		c = &sizeCounts{counts: make([]uint64, len(b.s.buckets)+1)}
		b.s.byTenant[b.tenant] = c
	}
	for i, n := range b.counts {
		c.counts[i] += n
	}
	c.sum += b.sum
}
