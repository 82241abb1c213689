package rules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"

	"github.com/promontory-io/promontory/libs/rulefile"
)

// pick says which rules are wanted; what is empty wants all.
type pick struct{ groups, names []string }

func (p pick) wants(group, name string) bool {
	return (len(p.groups) == 0 || slices.Contains(p.groups, group)) && (len(p.names) == 0 || slices.Contains(p.names, name))
}

// fromFiles returns the recording rules of files, each to be evaluated in the span of time, at the times at which a ruler
// with the same files would have done so.
func fromFiles(patterns []string, want pick, from, to time.Time, interval time.Duration) ([]*fill, error) {
	set, err := rulefile.Read(patterns)
	if err != nil {
		return nil, err
	}
	var out []*fill
	for _, g := range set.Groups {
		every := interval
		if g.Interval > 0 {
			every = time.Duration(g.Interval)
		}
		offset := time.Duration(0)
		if g.QueryOffset != nil {
			offset = time.Duration(*g.QueryOffset)
		}
		grid := rules.NewGroup(rules.GroupOptions{
			Name: g.Name, File: g.File, Interval: every, QueryOffset: &offset, Opts: &rules.ManagerOptions{},
		})
		first := grid.EvalTimestamp(from.UnixNano())
		if first.Before(from) {
			first = first.Add(every)
		}
		last := grid.EvalTimestamp(to.UnixNano())
		for i, r := range g.Rules {
			if r.Record == "" || !want.wants(g.Name, r.Record) || last.Before(first) {
				continue
			}
			expr, err := parser.ParseExpr(r.Expr)
			if err != nil {
				return nil, fmt.Errorf("rule %s/%s: %w", g.Name, r.Record, err)
			}
			out = append(out, &fill{
				rule: rule{
					File: g.File, Group: g.Name, Name: r.Record, Index: i, Type: recording, Query: expr.String(),
					Labels: rules.FromMaps(g.Labels, r.Labels), Interval: every.Seconds(), Offset: offset.Seconds(),
				},
				spans: []span{{first.UnixMilli(), last.UnixMilli()}},
			})
		}
	}
	return out, nil
}

const recording = "recording"

// gap is a gap as a ruler lists it.
type gap struct {
	rule

	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	Evaluations int       `json:"evaluations"`
	Reason      string    `json:"reason"`
}

// ruler asks one for its gaps.
type ruler struct {
	base   *url.URL
	client *http.Client
}

// maxAnswerBytes bounds what is read of a ruler's answer.
const maxAnswerBytes = 256 << 20

func (r *ruler) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	u := r.base.JoinPath(path)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return fmt.Errorf("ask the ruler: %w", err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the ruler: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("ask the ruler at %s: %w", u.Redacted(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the ruler at %s: %s: %s", u.Redacted(), resp.Status, strings.TrimSpace(string(text[:min(len(text), 500)])))
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("ask the ruler at %s: unreadable answer: %w", u.Redacted(), err)
	}
	return nil
}

// gaps returns what the ruler lists, and its external labels.
func (r *ruler) gaps(ctx context.Context) ([]gap, labels.Labels, error) {
	var answer struct {
		Data struct {
			ExternalLabels labels.Labels `json:"externalLabels"`
			Gaps           []gap         `json:"gaps"`
		} `json:"data"`
	}
	err := r.call(ctx, http.MethodGet, "api/v1/rules/gaps", nil, &answer)
	return answer.Data.Gaps, answer.Data.ExternalLabels, err
}

// filled tells the ruler which gaps are gaps no more, and returns how many it knew.
func (r *ruler) filled(ctx context.Context, gaps []gap) (int, error) {
	body, err := json.Marshal(map[string]any{"gaps": gaps})
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct{ Forgotten int }
	}
	err = r.call(ctx, http.MethodPost, "api/v1/rules/gaps/filled", strings.NewReader(string(body)), &answer)
	return answer.Data.Forgotten, err
}

// fromGaps returns what is to be evaluated of gaps that lie in the span of time, and which gaps are filled by that.
// Alerts of the past are of no use to anybody. Pure.
func fromGaps(gaps []gap, want pick, from, to time.Time) (fills []*fill, taken []gap, err error) {
	byRule := map[string]*fill{}
	var errs []error
	for _, g := range gaps {
		if g.Type != recording || !want.wants(g.Group, g.Name) || g.End.Before(from) || g.Start.After(to) {
			continue
		}
		if g.step() <= 0 || g.End.Before(g.Start) {
			errs = append(errs, fmt.Errorf("gap of %s from %s to %s at an interval of %gs makes no sense", &g.rule, g.Start, g.End, g.Interval))
			continue
		}
		key := strings.Join([]string{g.File, g.Group, g.Name, g.Query, g.Labels.String(), fmt.Sprint(g.Index, g.Interval, g.Offset)}, "\xff")
		f := byRule[key]
		if f == nil {
			f = &fill{rule: g.rule}
			byRule[key] = f
			fills = append(fills, f)
		}
		s := span{g.Start.UnixMilli(), g.End.UnixMilli()}
		whole := s
		step := g.step()
		if late := from.UnixMilli() - s.first; late > 0 {
			s.first += (late + step - 1) / step * step
		}
		s.last = min(s.last, to.UnixMilli())
		if s.last < s.first {
			continue
		}
		f.spans = append(f.spans, s)
		if s == whole {
			taken = append(taken, g)
		}
	}
	fills = slices.DeleteFunc(fills, func(f *fill) bool { return len(f.spans) == 0 })
	for _, f := range fills {
		f.spans = merge(f.spans, f.step())
	}
	return fills, taken, errors.Join(errs...)
}
