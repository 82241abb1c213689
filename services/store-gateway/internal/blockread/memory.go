package blockread

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/budget"
)

const (
	// minBatchBytes and minWindowBytes are what a batch and a window of entries hold where memory is short: below, requests to the
	// bucket become too many.
	minBatchBytes  = 16 << 10
	minWindowBytes = 32 << 10
	// LookupBytes is what a look-up needs at least, in each block.
	LookupBytes = 16 << 10
	// keyBytes is what a postings list costs besides its references and the value of its label: its key, twice, its place in the
	// cache and in the bucket, the iterator and its place in the join.
	keyBytes = 512
	// greed is the part of the free memory that a stream takes to be faster: who comes next finds some too.
	greed = 8
)

// Memory is what the streams and look-ups of one request hold together. It is safe for concurrent use; nil has no limit.
type Memory struct {
	budget *budget.Budget
	res    *budget.Reservation
	// admission is nil where nobody waits for others.
	admission *admission
	// turn is waited for before a look-up; nil waits for nothing.
	turn func(ctx context.Context, large bool) (leave func(), err error)

	mu sync.Mutex // guards all below
	// expected is how large the answer may become, as far as is known, and large whether it counts as large.
	expected int64
	large    bool
	// finding is how many look-ups hold postings; ended is closed, and replaced, when one of them is done.
	finding int
	ended   chan struct{}
}

// streamBytes is what a stream of so many series needs at least beyond LookupBytes: two batches, of one series as most are, and a
// window of entries.
func (b *Block) streamBytes(series int) int64 {
	batch, window := b.minBatch(), b.minWindow()
	if series > 0 {
		batch = min(batch, int64(series)*b.seriesCost())
		window = min(window, int64(series)*(b.seriesBytes+entryOverhead))
	}
	return 2*batch + window
}

// seriesCost is what a series takes in a batch, about.
func (b *Block) seriesCost() int64 {
	return seriesOverhead + b.chunksPerSeries()*(b.chunkOverhead()+min(b.chunkBytes, typicalChunkBytes)) + b.chunkBytes
}

// answerBytes is what so many series take in an answer, about.
func (b *Block) answerBytes(series int) int64 {
	return int64(series) * (seriesOverhead + b.chunksPerSeries()*(b.chunkOverhead()+b.usualChunkBytes()))
}

// usualChunkBytes is how large chunks of the block are, about, as far as the number of their samples tells; histograms are larger.
func (b *Block) usualChunkBytes() int64 {
	usual := min(b.chunkBytes, typicalChunkBytes)
	if st := b.Meta.Stats; st.NumChunks > 0 && st.NumSamples > 0 && st.NumHistogramSamples == 0 {
		usual = min(usual, int64(st.NumSamples/st.NumChunks)*sampleBytes)
	}
	return usual
}

func (b *Block) minBatch() int64 { return max(minBatchBytes, min(b.seriesCost(), 1<<20)) }

func (b *Block) minWindow() int64 {
	return max(minWindowBytes, min(b.seriesBytes+entryOverhead, 1<<20))
}

const (
	// typicalChunkBytes is how large most chunks are at most.
	typicalChunkBytes = 1 << 10
	// sampleBytes is what a sample takes in most chunks at most.
	sampleBytes = 2
)

// Admit makes the streams of a request wait for each other until all of them know how many series they have: then wait is
// called once with what they need to go on, which it reserves, and with what the whole answer takes, about. Admit must be called
// before there are streams.
func (m *Memory) Admit(streams int, wait func(ctx context.Context, bytes, total int64) error) {
	m.admission = &admission{missing: streams, wait: wait, decided: make(chan struct{})}
}

// admission is the point where the streams of a request wait for each other.
type admission struct {
	wait func(ctx context.Context, bytes, total int64) error

	mu          sync.Mutex // guards missing, need and total
	missing     int        // streams that have yet to say what they need
	need, total int64
	// decided is closed when err is set.
	decided chan struct{}
	err     error
}

// admit says what a stream needs to go on, and in total; it returns when the whole request has the former.
func (m *Memory) admit(ctx context.Context, bytes, total int64) error {
	if m == nil || m.admission == nil {
		return m.grow(ctx, bytes)
	}
	a := m.admission
	a.mu.Lock()
	a.need += bytes
	a.total += total
	a.missing--
	last := a.missing == 0
	a.mu.Unlock()
	if last {
		a.err = a.wait(ctx, a.need, a.total)
		close(a.decided)
	}
	select {
	case <-a.decided:
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// NewMemory returns the memory of a request that has reserved LookupBytes for each block that is looked into at once.
func NewMemory(b *budget.Budget, res *budget.Reservation) *Memory {
	return &Memory{budget: b, res: res, ended: make(chan struct{})}
}

// extra reserves as much of most as does not leave others without, which may be nothing.
func (m *Memory) extra(most int64) int64 {
	if m == nil {
		return most
	}
	return m.res.GrowUpTo(0, min(most, (m.budget.Limit()-m.budget.Used())/greed))
}

// Grow reserves bytes on behalf of the whole request; they are given back when it ends.
func (m *Memory) Grow(ctx context.Context, bytes int64) error { return m.grow(ctx, bytes) }

// expect says how large the part of a block in the answer may become, about, before anything is held for it, and what is asked for
// next. Where the answer is large as a whole, or the look-up, the request counts as large from then on; see [Memory.MarkLarge].
func (m *Memory) expect(bytes, next int64) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	m.expected += bytes
	total := m.expected
	m.mu.Unlock()
	if m.SmallAnswer(total) && m.budget.IsSmall(next) {
		return nil
	}
	return m.MarkLarge(next)
}

// smallAnswer is the part of the budget that an answer does not exceed which goes with the small ones. It is never held as a whole.
const smallAnswer = 8

// SmallAnswer says whether an answer of so many bytes goes with the small ones.
func (m *Memory) SmallAnswer(bytes int64) bool {
	return m.budget == nil || bytes <= m.budget.Limit()/smallAnswer
}

// MarkLarge says that the answer is large, and how much will be asked for next; the request is refused where too many large ones wait.
func (m *Memory) MarkLarge(next int64) error {
	if err := m.res.MarkLarge(next); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.large = true
	return nil
}

// OnLookUp has turn called before each look-up in a block, when it has its memory; it is over when leave is called. OnLookUp must be
// called before there are streams.
func (m *Memory) OnLookUp(turn func(ctx context.Context, large bool) (leave func(), err error)) {
	m.turn = turn
}

// enter waits for the turn of a look-up that takes so much.
func (m *Memory) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	if m == nil || m.turn == nil {
		return func() {}, nil
	}
	m.mu.Lock()
	large := m.large
	m.mu.Unlock()
	return m.turn(ctx, large || !m.budget.IsSmall(bytes))
}

// grow reserves what cannot be done without.
func (m *Memory) grow(ctx context.Context, bytes int64) error {
	if m == nil {
		return nil
	}
	return m.res.Grow(ctx, bytes)
}

func (m *Memory) shrink(bytes int64) {
	if m != nil {
		m.res.Shrink(bytes)
	}
}

// find reserves what a look-up holds of postings, to be given back with found. Look-ups of one request take turns where memory is
// short: only one that has no other beside it waits for other requests, for these may wait for this one.
func (m *Memory) find(ctx context.Context, bytes int64) error {
	if m == nil {
		return nil
	}
	for {
		m.mu.Lock()
		alone, ended := m.finding == 0, m.ended
		if !alone && m.res.TryGrow(bytes) == nil {
			m.finding++
			m.mu.Unlock()
			return nil
		}
		if alone {
			m.finding++
			m.mu.Unlock()
			err := m.res.Grow(ctx, bytes)
			if err != nil {
				m.found(0)
			}
			return err
		}
		m.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// found gives back what a look-up held.
func (m *Memory) found(bytes int64) {
	if m == nil {
		return
	}
	m.res.Shrink(bytes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finding--
	close(m.ended)
	m.ended = make(chan struct{})
}

// account reserves what grows bit by bit, in steps. It serves one goroutine.
type account struct {
	m             *Memory
	held, pending int64
}

// An account reserves as much as it has at once, between these.
const (
	firstStep   = 8 << 10
	largestStep = 1 << 20
)

func (a *account) add(ctx context.Context, bytes int64) error {
	if a.pending += bytes; a.pending < min(max(a.held, firstStep), largestStep) {
		return nil
	}
	if err := a.m.grow(ctx, a.pending); err != nil {
		return err
	}
	a.held, a.pending = a.held+a.pending, 0
	return nil
}

// close gives everything back.
func (a *account) close() {
	a.m.shrink(a.held)
	a.held = 0
}

// blame names the matcher that makes a request too large.
func blame(err error, culprit *labels.Matcher, all []*labels.Matcher) error {
	if err == nil || culprit == nil {
		return err
	}
	briefly := make([]string, len(all))
	for i, m := range all {
		briefly[i] = Brief(m.Name, m.Type.String(), m.Value)
	}
	return Blame(err, "matcher "+Brief(culprit.Name, culprit.Type.String(), culprit.Value), "{"+strings.Join(briefly, ", ")+"}")
}

// Blame says in a refusal which part of which request is to blame. Other errors are returned as they are.
func Blame(err error, culprit, of string) error {
	var refusal *budget.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	named := *refusal
	named.Who = culprit + " of " + of
	return &named
}

// Brief is a matcher as PromQL has it, with a long value cut.
func Brief(name, op, value string) string {
	const most = 200
	if len(value) <= most {
		return fmt.Sprintf("%s%s%q", name, op, value)
	}
	return fmt.Sprintf("%s%s%q… (%d bytes)", name, op, value[:most], len(value))
}
