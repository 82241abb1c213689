package storeapi

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// Matchers translates wire matchers. It returns an ErrInvalid that names the
// matcher when a type is unknown or a regular expression does not parse.
func Matchers(ms []*thanos.LabelMatcher) ([]*labels.Matcher, error) {
	out := make([]*labels.Matcher, 0, len(ms))
	for _, m := range ms {
		var t labels.MatchType
		switch m.GetType() {
		case thanos.LabelMatcher_EQ:
			t = labels.MatchEqual
		case thanos.LabelMatcher_NEQ:
			t = labels.MatchNotEqual
		case thanos.LabelMatcher_RE:
			t = labels.MatchRegexp
		case thanos.LabelMatcher_NRE:
			t = labels.MatchNotRegexp
		default:
			return nil, Invalidf("matcher on label %q has unknown type %d", m.GetName(), m.GetType())
		}
		lm, err := labels.NewMatcher(t, m.GetName(), m.GetValue())
		if err != nil {
			return nil, Invalidf("matcher %s%s%q: %v", m.GetName(), t, m.GetValue(), err)
		}
		out = append(out, lm)
	}
	return out, nil
}

// WireMatchers translates matchers for the wire.
func WireMatchers(ms []*labels.Matcher) []*thanos.LabelMatcher {
	out := make([]*thanos.LabelMatcher, 0, len(ms))
	for _, m := range ms {
		t := thanos.LabelMatcher_EQ
		switch m.Type {
		case labels.MatchEqual:
		case labels.MatchNotEqual:
			t = thanos.LabelMatcher_NEQ
		case labels.MatchRegexp:
			t = thanos.LabelMatcher_RE
		case labels.MatchNotRegexp:
			t = thanos.LabelMatcher_NRE
		}
		out = append(out, &thanos.LabelMatcher{Type: t, Name: m.Name, Value: m.Value})
	}
	return out
}

// MatchExternal evaluates the matchers that name an external label. It returns
// the others, and false when ext is rejected, so that the data behind it has
// nothing to answer.
func MatchExternal(ext labels.Labels, ms []*labels.Matcher) (rest []*labels.Matcher, ok bool) {
	rest = make([]*labels.Matcher, 0, len(ms))
	for _, m := range ms {
		value := ext.Get(m.Name)
		if value == "" {
			rest = append(rest, m)
			continue
		}
		if !m.Matches(value) {
			return nil, false
		}
	}
	return rest, true
}

// Strategy is the partial response strategy of a request, with the deprecated
// flag taken into account.
func Strategy(disabled bool, s thanos.PartialResponseStrategy) thanos.PartialResponseStrategy {
	if disabled {
		return thanos.PartialResponseStrategy_ABORT
	}
	return s
}

// LabelSet translates labels for the wire.
func LabelSet(lset labels.Labels) *thanos.LabelSet {
	out := &thanos.LabelSet{}
	lset.Range(func(l labels.Label) {
		out.Labels = append(out.Labels, &thanos.Label{Name: l.Name, Value: l.Value})
	})
	return out
}

// Labels translates a wire label set, in any order, into labels.
func Labels(set *thanos.LabelSet) labels.Labels {
	b := labels.NewScratchBuilder(len(set.GetLabels()))
	for _, l := range set.GetLabels() {
		b.Add(l.GetName(), l.GetValue())
	}
	b.Sort()
	return b.Labels()
}

// Extender makes a server's label sets out of its series' own: external labels
// are set over equal-named inner ones, then replica labels are removed wherever
// they came from. It keeps scratch space and serves one goroutine.
type Extender struct {
	ext     labels.Labels // without the removed labels
	remove  []string
	changes []string // names whose inner value would be lost
	scratch labels.ScratchBuilder
}

// NewExtender returns an Extender for a server's external labels and a request's
// without_replica_labels.
func NewExtender(ext labels.Labels, remove []string) *Extender {
	b := labels.NewBuilder(ext)
	b.Del(remove...)
	e := &Extender{ext: b.Labels(), remove: slices.Clone(remove)}
	slices.Sort(e.remove)
	e.remove = slices.Compact(e.remove)
	e.ext.Range(func(l labels.Label) { e.changes = append(e.changes, l.Name) })
	e.changes = append(e.changes, e.remove...)
	return e
}

// External is the external labels that are left after the removal.
func (e *Extender) External() labels.Labels { return e.ext }

// Affected are the label names whose presence in a series of the source breaks
// the order that [Orderer] restores: the series then have to be sorted as a
// whole. It is the external labels that override and the replica labels.
func (e *Extender) Affected() []string { return e.changes }

// Extend returns lset as the server shows it, in memory of its own. lset must be
// sorted.
func (e *Extender) Extend(lset labels.Labels) labels.Labels {
	e.fill(lset)
	return e.scratch.Labels()
}

// ExtendInto is Extend that reuses the memory of *into, which must come from an
// earlier ExtendInto and not be in use.
func (e *Extender) ExtendInto(lset labels.Labels, into *labels.Labels) {
	e.fill(lset)
	e.scratch.Overwrite(into)
}

// fill merges the two sorted lists into the scratch builder.
func (e *Extender) fill(lset labels.Labels) {
	e.scratch.Reset()
	ext := e.ext
	pending, more := firstLabel(ext)
	lset.Range(func(l labels.Label) {
		for more && pending.Name < l.Name {
			e.scratch.Add(pending.Name, pending.Value)
			pending, more = labelAfter(ext, pending.Name)
		}
		if more && pending.Name == l.Name || e.removes(l.Name) {
			return
		}
		e.scratch.Add(l.Name, l.Value)
	})
	for more {
		e.scratch.Add(pending.Name, pending.Value)
		pending, more = labelAfter(ext, pending.Name)
	}
}

func (e *Extender) removes(name string) bool {
	for _, r := range e.remove { // a handful at most
		if r == name {
			return true
		}
	}
	return false
}

func firstLabel(lset labels.Labels) (labels.Label, bool) { return labelAfter(lset, "") }

func labelAfter(lset labels.Labels, name string) (out labels.Label, ok bool) {
	lset.Range(func(l labels.Label) {
		if !ok && l.Name > name {
			out, ok = l, true
		}
	})
	return out, ok
}

// Shard decides which series belong to a shard of a sharded query. The nil Shard
// takes all. It keeps scratch space and serves one goroutine.
type Shard struct {
	index, total uint64
	by           bool
	names        map[string]struct{}
	buf          []byte
}

// NewShard returns the shard that info asks for, nil where it asks for none.
func NewShard(info *thanos.ShardInfo) *Shard {
	if info.GetTotalShards() < 1 {
		return nil
	}
	s := &Shard{
		index: uint64(info.GetShardIndex()), total: uint64(info.GetTotalShards()),
		by: info.GetBy(), names: make(map[string]struct{}, len(info.GetLabels())),
	}
	for _, n := range info.GetLabels() {
		s.names[n] = struct{}{}
	}
	return s
}

// Has reports whether lset, as the server shows it, is in the shard.
//
// Source: xxhash64 over name 0xff value 0xff of the selected labels in order,
// modulo the number of shards.
func (s *Shard) Has(lset labels.Labels) bool {
	if s == nil {
		return true
	}
	s.buf = s.buf[:0]
	lset.Range(func(l labels.Label) {
		if _, named := s.names[l.Name]; named == s.by {
			s.buf = append(s.buf, l.Name...)
			s.buf = append(s.buf, 0xff)
			s.buf = append(s.buf, l.Value...)
			s.buf = append(s.buf, 0xff)
		}
	})
	return xxhash.Sum64(s.buf)%s.total == s.index
}

// CheckRange returns an ErrInvalid when a time range ends before it starts.
func CheckRange(mint, maxt int64) error {
	if maxt < mint {
		return Invalidf("time range ends (%d) before it starts (%d)", maxt, mint)
	}
	return nil
}

// FormatMatchers is ms as a series selector for messages.
func FormatMatchers(ms []*labels.Matcher) string {
	s := "{"
	for i, m := range ms {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprint(m)
	}
	return s + "}"
}
