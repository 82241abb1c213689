package answer

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// Join puts the parts of one matrix behind each other: parts ascend in time and do not overlap. Series are in the order of
// their labels, as a single answer has them. One part is returned as it is; the join of others shares their memory.
func Join(parts []*Answer) (*Answer, error) {
	if len(parts) == 1 {
		return parts[0], nil
	}
	out := &Answer{Type: TypeMatrix}
	size := 0
	for _, p := range parts {
		if p.Type != TypeMatrix {
			return nil, malformed("a part of a matrix is a %s", p.Type)
		}
		size = max(size, len(p.Series))
	}
	at := make(map[string]int, size)
	out.Series = make([]Series, 0, size)
	// All lists of pieces are cut from one slab: of each series a part has mostly one piece.
	slab := make([][]byte, 0, 2*size*len(parts))
	ordered := true
	for n, p := range parts {
		for i := range p.Series {
			s := &p.Series[i]
			k, known := at[string(s.Metric)]
			if !known {
				k = len(out.Series)
				at[string(s.Metric)] = k
				out.Series = append(out.Series, Series{Metric: s.Metric})
				ordered = ordered && n == 0
			}
			out.Series[k].Floats = extend(&slab, out.Series[k].Floats, s.Floats, len(parts)-n)
			out.Series[k].Histograms = extend(&slab, out.Series[k].Histograms, s.Histograms, len(parts)-n)
		}
	}
	out.notes(parts)
	if !ordered {
		return out, sortSeries(out.Series)
	}
	return out, nil
}

// extend appends points; a list that begins gets room for its later pieces out of the slab.
func extend(slab *[][]byte, to, points Points, room int) Points {
	if len(points) == 0 {
		return to
	}
	if to == nil {
		room = max(room, len(points))
		free := (*slab)[len(*slab):cap(*slab)]
		if room <= len(free) {
			*slab = (*slab)[:len(*slab)+room]
			to = free[:0:room]
		}
	}
	return append(to, points...)
}

// Union puts the shards of one answer together: each series is in one of them. The series of a matrix, and those of a vector
// unless keepOrder, are in the order of their labels.
func Union(shards []*Answer, keepOrder bool) (*Answer, error) {
	if len(shards) == 1 {
		return shards[0], nil
	}
	out := &Answer{Type: shards[0].Type}
	for _, p := range shards {
		if p.Type != out.Type || p.Type != TypeMatrix && p.Type != TypeVector {
			return nil, malformed("shards of one answer are a %s and a %s", out.Type, p.Type)
		}
		out.Series = append(out.Series, p.Series...)
	}
	out.notes(shards)
	if keepOrder && out.Type == TypeVector {
		return out, nil
	}
	return out, sortSeries(out.Series)
}

// Lists unites sorted lists of names, or of label sets, into one without duplicates, of at most limit items; 0 is no limit.
// cut tells whether there were more.
func Lists(parts []*Answer, limit int) (out *Answer, cut bool, err error) {
	out = &Answer{Type: TypeList}
	for _, p := range parts {
		if p.Type != TypeList {
			return nil, false, malformed("a part of a list is a %s", p.Type)
		}
		out.Items = append(out.Items, p.Items...)
	}
	out.notes(parts)
	if len(parts) > 1 {
		if out.Items, err = unite(out.Items); err != nil {
			return nil, false, err
		}
	}
	if limit > 0 && len(out.Items) > limit {
		out.Items, cut = out.Items[:limit], true
	}
	return out, cut, nil
}

func unite(items [][]byte) ([][]byte, error) {
	if len(items) > 0 && items[0][0] == '{' {
		keyed := make([]keyedItem[labels.Labels], len(items))
		for i, item := range items {
			ls, err := parseLabels(item)
			if err != nil {
				return nil, err
			}
			keyed[i] = keyedItem[labels.Labels]{ls, item}
		}
		return sorted(keyed, labels.Compare), nil
	}
	keyed := make([]keyedItem[string], len(items))
	for i, item := range items {
		text, err := unquote(item)
		if err != nil {
			return nil, err
		}
		keyed[i] = keyedItem[string]{text, item}
	}
	return sorted(keyed, cmp.Compare[string]), nil
}

type keyedItem[K any] struct {
	key  K
	item []byte
}

func sorted[K any](keyed []keyedItem[K], compare func(a, b K) int) [][]byte {
	slices.SortFunc(keyed, func(a, b keyedItem[K]) int { return compare(a.key, b.key) })
	keyed = slices.CompactFunc(keyed, func(a, b keyedItem[K]) bool { return compare(a.key, b.key) == 0 })
	out := make([][]byte, len(keyed))
	for i := range keyed {
		out[i] = keyed[i].item
	}
	return out
}

func sortSeries(series []Series) error {
	type one struct {
		ls labels.Labels
		s  Series
	}
	all := make([]one, len(series))
	for i := range series {
		ls, err := parseLabels(series[i].Metric)
		if err != nil {
			return err
		}
		all[i] = one{ls, series[i]}
	}
	slices.SortStableFunc(all, func(a, b one) int { return labels.Compare(a.ls, b.ls) })
	for i := range all {
		series[i] = all[i].s
	}
	return nil
}

// parseLabels reads a JSON object of texts.
func parseLabels(object []byte) (labels.Labels, error) {
	b := labels.NewScratchBuilder(8)
	s := &scanner{b: object}
	err := s.object(func(name string) error {
		quoted, err := s.text()
		if err != nil {
			return err
		}
		value, err := unquote(quoted)
		b.Add(name, value)
		return err
	})
	if err != nil {
		return labels.EmptyLabels(), err
	}
	b.Sort()
	return b.Labels(), nil
}

// notes takes over the notes and the statistics of all parts.
func (a *Answer) notes(parts []*Answer) {
	for _, p := range parts {
		a.Warnings = AddNotes(a.Warnings, p.Warnings)
		a.Infos = AddNotes(a.Infos, p.Infos)
		a.Stats = addStats(a.Stats, p.Stats)
		if a.Analysis == nil {
			a.Analysis = p.Analysis
		}
	}
}

// AddNotes returns notes with those of more that it lacks.
func AddNotes(notes, more []string) []string {
	for _, m := range more {
		if !slices.Contains(notes, m) {
			notes = append(notes, m)
		}
	}
	return notes
}

// Stats are the figures of a query, as far as they can be added up.
type Stats struct {
	Timings map[string]float64 `json:"timings"`
	Samples struct {
		Total int64 `json:"totalQueryableSamples"`
		Peak  int64 `json:"peakSamples"`
	} `json:"samples"`
}

// ParseStats reads the figures of an answer; those it does not have are 0.
func ParseStats(text []byte) (Stats, error) {
	var s Stats
	if text == nil {
		return s, nil
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, malformed("stats: %w", err)
	}
	return s, nil
}

// addStats adds figures of a part to those of the parts before. Figures that cannot be read are worth no answer.
func addStats(sum, part []byte) []byte {
	switch {
	case part == nil:
		return sum
	case sum == nil:
		return part
	}
	a, err := ParseStats(sum)
	if err != nil {
		return part
	}
	b, err := ParseStats(part)
	if err != nil {
		return sum
	}
	if a.Timings == nil {
		a.Timings = map[string]float64{}
	}
	for k, v := range b.Timings {
		a.Timings[k] += v
	}
	a.Samples.Total += b.Samples.Total
	a.Samples.Peak = max(a.Samples.Peak, b.Samples.Peak)
	text, err := json.Marshal(a)
	if err != nil {
		return sum
	}
	return text
}
