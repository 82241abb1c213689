package run

import (
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
)

// maxEvents is how many events are remembered.
const maxEvents = 200

// Event is something an operator may want to know of.
type Event struct {
	Time  time.Time `json:"time"`
	Kind  string    `json:"kind"`
	Block string    `json:"block,omitempty"`
	Text  string    `json:"text"`
}

// Running is a job under way.
type Running struct {
	// Job describes it in one line.
	Job   string    `json:"job"`
	Lane  string    `json:"lane"`
	Since time.Time `json:"since"`

	Group      string            `json:"group"`
	Labels     map[string]string `json:"labels"`
	Resolution int64             `json:"resolution"`
	Targets    []int64           `json:"targets"`
	// MinTime and MaxTime are Unix milliseconds.
	MinTime int64 `json:"minTime"`
	MaxTime int64 `json:"maxTime"`
	// Bytes are those of the sources.
	Bytes   int64    `json:"bytes"`
	Sources []string `json:"sources"`
}

// Aside is a block or group of blocks that is left out of the work, and why.
type Aside struct {
	Block  string `json:"block"`
	Reason string `json:"reason"`
	// Marked says that a mark in the bucket keeps it out; else planning does.
	Marked bool `json:"marked"`
}

// Resting is a job that failed and is tried again later.
type Resting struct {
	Job      string    `json:"job"`
	Failures int       `json:"failures"`
	Until    time.Time `json:"until"`
	Error    string    `json:"error"`
}

// Snapshot is the state of the compactor at one moment. It shares metas, which must not
// be changed; the rest is the caller's.
type Snapshot struct {
	// Synced is when the bucket was last looked at; zero before the first time.
	Synced  time.Time
	Err     error
	Metas   []*block.Meta
	Blocks  []*plan.Block
	Running []Running
	Aside   []Aside
	Resting []Resting
	Events  []Event
	// Rate is how many bytes of sources a job gets through in a second, 0 if unknown.
	Rate float64
}

// state is what lanes tell each other and the API. Safe for concurrent use.
type state struct {
	mu       sync.Mutex // guards what follows
	synced   time.Time
	err      error
	metas    []*block.Meta
	blocks   []*plan.Block
	problems []plan.Problem
	marked   []Aside
	running  map[int]Running
	nextRun  int
	events   []Event
	resting  map[string]*Resting
	waiting  map[ulid.ULID]waiting
	bytes    float64 // of sources of finished jobs
	seconds  float64
}

// waiting is a block that is left out until pieces of it have arrived.
type waiting struct {
	reason string
	until  time.Time
}

func newState() *state {
	return &state{running: map[int]Running{}, resting: map[string]*Resting{}, waiting: map[ulid.ULID]waiting{}}
}

func (s *state) snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{
		Synced: s.synced, Err: s.err, Metas: slices.Clone(s.metas), Blocks: slices.Clone(s.blocks),
		Events: slices.Clone(s.events), Aside: slices.Clone(s.marked), Rate: s.rate(),
	}
	for _, r := range s.running {
		out.Running = append(out.Running, r)
	}
	slices.SortFunc(out.Running, func(a, b Running) int { return a.Since.Compare(b.Since) })
	for _, p := range s.problems {
		for _, b := range p.Blocks {
			out.Aside = append(out.Aside, Aside{Block: b.ID().String(), Reason: p.Reason})
		}
	}
	for id, w := range s.waiting {
		out.Aside = append(out.Aside, Aside{Block: id.String(), Reason: w.reason})
	}
	for _, r := range s.resting {
		out.Resting = append(out.Resting, *r)
	}
	slices.SortFunc(out.Resting, func(a, b Resting) int { return a.Until.Compare(b.Until) })
	return out
}

func (s *state) rate() float64 {
	if s.seconds <= 0 {
		return 0
	}
	return s.bytes / s.seconds
}

func (s *state) event(now time.Time, kind, id, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, Event{Time: now, Kind: kind, Block: id, Text: text})
	if n := len(s.events) - maxEvents; n > 0 {
		s.events = slices.Delete(s.events, 0, n)
	}
}

// begin enters a job as running; the returned function takes it out.
func (s *state) begin(lane string, j *plan.Job, now time.Time) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nextRun
	s.nextRun++
	running := Running{
		Job: j.String(), Lane: lane, Since: now, Group: j.Group, Labels: j.Labels, Resolution: j.Resolution, Targets: j.Targets,
		MinTime: j.MinTime, MaxTime: j.MaxTime, Bytes: j.Bytes(),
	}
	for _, b := range j.Sources {
		running.Sources = append(running.Sources, b.ID().String())
	}
	s.running[n] = running
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, n)
	}
}

// done notes a job that ended well.
func (s *state) done(j *plan.Job, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resting, j.Key())
	// Old figures fade, so that the rate follows what the bucket does now.
	s.bytes, s.seconds = 0.9*s.bytes+float64(j.Bytes()), 0.9*s.seconds+took.Seconds()
}

// rest lets a failed job rest and returns for how long.
func (s *state) rest(j *plan.Job, err error, now time.Time, backoff func(n int) time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.resting[j.Key()]
	if !ok {
		r = &Resting{Job: j.String()}
		s.resting[j.Key()] = r
	}
	r.Failures++
	r.Error = err.Error()
	d := backoff(r.Failures)
	r.Until = now.Add(d)
	return d
}

// forget takes a job out of those that rest: it may be planned differently now.
func (s *state) forget(j *plan.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resting, j.Key())
}

func (s *state) isResting(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.resting[key]
	return ok && now.Before(r.Until)
}

// pending returns the jobs that rest, and their last errors.
func (s *state) pending() []Resting {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Resting
	for _, r := range s.resting {
		out = append(out, *r)
	}
	return out
}

func (s *state) wait(id ulid.ULID, reason string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[id] = waiting{reason: reason, until: until}
}

// isWaiting reports whether a block is left out for now.
func (s *state) isWaiting(id ulid.ULID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.waiting[id]
	if ok && !now.Before(w.until) {
		delete(s.waiting, id)
		return false
	}
	return ok
}
