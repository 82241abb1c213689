package bucket

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// changes is what a rewrite does to series.
type changes struct {
	deletions       []deletion
	relabels        []*relabel.Config
	relabelsApplied []json.RawMessage
	// digest stands for all of it.
	digest [sha256.Size]byte
}

// deletion deletes series or, with intervals, times of series.
type deletion struct {
	Selector  string             `yaml:"matchers"`
	Intervals []deletionInterval `yaml:"intervals"`
	RequestID string             `yaml:"request_id"`

	matchers []*labels.Matcher
}

// deletionInterval is in Unix milliseconds, both ends inclusive.
type deletionInterval struct {
	Mint int64 `yaml:"mint"`
	Maxt int64 `yaml:"maxt"`
}

// readChanges reads both configurations.
func readChanges(c *rewriteConfig) (*changes, error) {
	out := &changes{}
	sum := sha256.New()
	if c.deletes.IsSet() {
		text, err := c.deletes.Bytes()
		if err != nil {
			return nil, err
		}
		_, _ = sum.Write(text) // a digest cannot fail
		if out.deletions, err = parseDeletions(c.deletes.Source(), text); err != nil {
			return nil, err
		}
	}
	_, _ = sum.Write([]byte{0})
	if c.relabels.IsSet() {
		text, err := c.relabels.Bytes()
		if err != nil {
			return nil, err
		}
		_, _ = sum.Write(text)
		if out.relabels, out.relabelsApplied, err = parseRelabels(c.relabels.Source(), text); err != nil {
			return nil, err
		}
	}
	sum.Sum(out.digest[:0])
	return out, nil
}

// CheckDeletions reads the content of --rewrite.to-delete-config; source is what errors call it.
func CheckDeletions(source string, text []byte) error {
	_, err := parseDeletions(source, text)
	return err
}

func parseDeletions(source string, text []byte) ([]deletion, error) {
	var out []deletion
	if err := flags.DecodeYAML(source, text, &out); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no deletion", source)
	}
	for i := range out {
		d := &out[i]
		var err error
		if d.matchers, err = parser.ParseMetricSelector(d.Selector); err != nil {
			return nil, fmt.Errorf("%s: deletion %d: matchers: %w", source, i+1, err)
		}
		if !slices.ContainsFunc(d.matchers, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, fmt.Errorf("%s: deletion %d: matchers: %s matches every series; one matcher has to name something that is there", source, i+1, d.Selector)
		}
		for _, v := range d.Intervals {
			if v.Mint > v.Maxt {
				return nil, fmt.Errorf("%s: deletion %d: the interval from %d to %d ends before it begins", source, i+1, v.Mint, v.Maxt)
			}
		}
	}
	return out, nil
}

func parseRelabels(source string, text []byte) ([]*relabel.Config, []json.RawMessage, error) {
	var out []*relabel.Config
	if err := flags.DecodeYAML(source, text, &out); err != nil {
		return nil, nil, err
	}
	if len(out) == 0 {
		return nil, nil, fmt.Errorf("%s: no relabel rule", source)
	}
	for i, r := range out {
		if r == nil {
			return nil, nil, fmt.Errorf("%s: relabel rule %d is empty", source, i+1)
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			return nil, nil, fmt.Errorf("%s: relabel rule %d: %w", source, i+1, err)
		}
		r.NameValidationScheme = model.UTF8Validation
	}
	var plain []map[string]any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", source, err)
	}
	var applied []json.RawMessage
	for _, p := range plain {
		b, err := json.Marshal(p)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", source, err)
		}
		applied = append(applied, b)
	}
	return out, applied, nil
}

// decide says what becomes of a series: its labels afterwards, empty where all of it goes, and the times that go. Pure.
func (c *changes) decide(lset labels.Labels) (labels.Labels, tombstones.Intervals) {
	var gone tombstones.Intervals
	for _, d := range c.deletions {
		if slices.ContainsFunc(d.matchers, func(m *labels.Matcher) bool { return !m.Matches(lset.Get(m.Name)) }) {
			continue
		}
		if len(d.Intervals) == 0 {
			return labels.EmptyLabels(), nil
		}
		for _, v := range d.Intervals {
			gone = gone.Add(tombstones.Interval{Mint: v.Mint, Maxt: v.Maxt})
		}
	}
	if len(c.relabels) > 0 {
		changed, kept := relabel.Process(lset, c.relabels...)
		if !kept {
			return labels.EmptyLabels(), nil
		}
		lset = changed
	}
	return lset, gone
}

func (c *changes) deletionsApplied() []block.DeletionRequest {
	var out []block.DeletionRequest
	for _, d := range c.deletions {
		text, _ := json.Marshal(d.matchers) // matchers are strings and numbers
		r := block.DeletionRequest{Matchers: text, RequestID: d.RequestID}
		for _, v := range d.Intervals {
			r.Intervals = append(r.Intervals, tombstones.Interval{Mint: v.Mint, Maxt: v.Maxt})
		}
		out = append(out, r)
	}
	return out
}

// sources returns the compaction sources of a rewritten block: one new ULID for each old one, the same in each block and each
// run with these changes. New blocks are then to one another what the old ones were, a raw block and those downsampled
// from it for one, and to none of the old ones, as whose copies they would else be taken. Pure.
func (c *changes) sources(old []ulid.ULID) []ulid.ULID {
	out := make([]ulid.ULID, len(old))
	for i, id := range old {
		sum := sha256.Sum256(append(c.digest[:len(c.digest):len(c.digest)], id[:]...))
		copy(out[i][:6], id[:6]) // the time
		copy(out[i][6:], sum[:])
	}
	slices.SortFunc(out, ulid.ULID.Compare)
	return out
}

// made reports whether a block is what these changes have made of another one.
func (c *changes) made(m *block.Meta) bool {
	n := len(m.Thanos.Rewrites)
	if n == 0 {
		return false
	}
	got := slices.Clone(m.Compaction.Sources)
	slices.SortFunc(got, ulid.ULID.Compare)
	return slices.Equal(got, c.sources(m.Thanos.Rewrites[n-1].Sources))
}
