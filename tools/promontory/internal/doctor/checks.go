package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Severities.
const (
	severe  = "error"   // answers are wrong or incomplete, or data is lost
	warning = "warning" // it will be so one day
	advice  = "info"    // it is worth a thought
)

// finding is one trap that a set-up is in.
type finding struct {
	Severity string `json:"severity"`
	// Trap is the name of what is wrong, the same for each that is.
	Trap string `json:"trap"`
	// Where is the service, or the bucket.
	Where    string `json:"where"`
	Evidence string `json:"evidence"`
	Mend     string `json:"mend"`
}

// diagnose returns what is wrong, the worst first. Pure.
func diagnose(f *facts) []finding {
	var out []finding
	for _, check := range []func(*facts) []finding{
		unreachable, failingStores, missingLabels, equalLabels, replicaLabels, shortRetention, twoCompactors, loops, timeouts, noLimits, clocks, oldFlags,
	} {
		out = append(out, check(f)...)
	}
	rank := map[string]int{severe: 0, warning: 1, advice: 2}
	slices.SortStableFunc(out, func(a, b finding) int { return rank[a.Severity] - rank[b.Severity] })
	return out
}

func unreachable(f *facts) (out []finding) {
	for _, s := range f.services {
		switch {
		case s.failed != nil:
			out = append(out, finding{severe, "unreachable", s.name, s.failed.Error(), "see whether it runs, whether the URL is that of its --http-address, and whether --http-config has the credentials it wants"})
		case s.kind == "":
			out = append(out, finding{
				advice, "flags unknown", s.name, "it answers, but not under /api/v1/status/flags in a way that tells what it is",
				"give its argument list with --service as well, so that its flags can be looked at",
			})
		}
	}
	return out
}

func failingStores(f *facts) (out []finding) {
	for _, s := range f.services {
		for _, st := range s.stores {
			if why := st.failure(); why != "" {
				out = append(out, finding{severe, "store does not answer", s.name, fmt.Sprintf("%s: %s", st.Name, why), "until it answers, what it holds is missing from answers, which say so: start it, or take it out of the endpoints"})
			}
		}
	}
	return out
}

// wantsLabels are the kinds of stores, in the words of /api/v1/stores, that must have external labels.
func wantsLabels(kind string) bool { return kind == "sidecar" || kind == "rule" || kind == "receive" }

func missingLabels(f *facts) (out []finding) {
	seen := map[string]bool{}
	for _, s := range f.services {
		for _, st := range s.stores {
			bare := !slices.ContainsFunc(st.LabelSets, func(l map[string]string) bool { return len(l) > 0 })
			if wantsLabels(st.kind) && bare && st.failure() == "" && !seen[st.Name] {
				seen[st.Name] = true
				out = append(out, finding{severe, "missing external labels", st.Name, fmt.Sprintf("%s lists it as %s without a label set", s.name, st.kind), mendLabels(st.kind)})
			}
		}
	}
	for _, g := range f.blocks {
		if len(g.labels) == 0 {
			out = append(out, finding{
				severe, "missing external labels", "bucket", fmt.Sprintf("%d blocks have none, %s for one", g.blocks, g.example),
				"nobody can tell whose they are: give their producer external labels, and mark them for deletion or upload them anew with labels",
			})
		}
	}
	return out
}

func mendLabels(kind string) string {
	if kind == "sidecar" {
		return "set global.external_labels in the configuration of its Prometheus, different for each server"
	}
	return "give it --label, different for each replica"
}

func equalLabels(f *facts) (out []finding) {
	names := map[string][]string{}
	for _, s := range f.services {
		for _, st := range s.stores {
			for _, l := range st.LabelSets {
				// Stores of a ring of receivers share tenants on purpose, but not their replica.
				key := st.kind + " " + labelText(l)
				if wantsLabels(st.kind) && len(l) > 0 && !slices.Contains(names[key], st.Name) {
					names[key] = append(names[key], st.Name)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(names)) {
		if len(names[key]) > 1 {
			slices.Sort(names[key])
			kind, labels, _ := strings.Cut(key, " ")
			out = append(out, finding{
				severe, "equal external labels", strings.Join(names[key], ", "), "each is a " + kind + " with " + labels,
				"their series cannot be told apart and their blocks overlap: give each a replica label of its own, and name that in --query.replica-label",
			})
		}
	}
	return out
}

func labelText(l map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, fmt.Sprintf("%s=%q", name, l[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func replicaLabels(f *facts) (out []finding) {
	for _, s := range f.services {
		switch {
		case s.kind == kindQuerier && len(s.stores) > 0:
			have := map[string]bool{}
			for _, st := range s.stores {
				for _, l := range st.LabelSets {
					for name := range l {
						have[name] = true
					}
				}
			}
			out = append(out, unmatched(s, "query.replica-label", have, "no store has an external label of that name")...)
		case s.kind == kindCompactor && f.bucketRead && len(f.blocks) > 0:
			have := map[string]bool{}
			for _, g := range f.blocks {
				for name := range g.labels {
					have[name] = true
				}
			}
			out = append(out, unmatched(s, "deduplication.replica-label", have, "no block of the bucket has an external label of that name")...)
		}
	}
	return out
}

func unmatched(s *service, flag string, have map[string]bool, why string) (out []finding) {
	for _, name := range strings.FieldsFunc(s.flags[flag], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		if !have[name] {
			out = append(out, finding{
				warning, "replica label matches nothing", s.name, fmt.Sprintf("--%s=%s: %s; there are: %s", flag, name, why, orNone(slices.Sorted(maps.Keys(have)))),
				"replicas are not merged by it: name the label that tells them apart, or leave the flag out",
			})
		}
	}
	return out
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// duration reads a flag; ok is false where it is not there, not readable or 0.
func (s *service) duration(flag string) (d time.Duration, ok bool) {
	d, err := flags.ParseDuration(s.flags[flag])
	return d, err == nil && d > 0
}

// Blocks that span less are not downsampled.
const (
	rawSpan  = 40 * time.Hour
	fiveSpan = 10 * 24 * time.Hour
)

func shortRetention(f *facts) (out []finding) {
	for _, s := range f.services {
		if s.kind != kindCompactor || s.flags["downsampling.disable"] == "true" {
			continue
		}
		for _, r := range []struct {
			flag, to string
			least    time.Duration
		}{{"retention.resolution-raw", "5m", rawSpan}, {"retention.resolution-5m", "1h", fiveSpan}} {
			if d, ok := s.duration(r.flag); ok && d < r.least {
				out = append(out, finding{
					severe, "retention shorter than downsampling", s.name,
					fmt.Sprintf("--%s=%s, but only blocks that span %s are downsampled to %s", r.flag, s.flags[r.flag], flags.FormatDuration(r.least), r.to),
					fmt.Sprintf("data is deleted before there is a coarser copy of it: keep it for %s at least, or for ever with 0d", flags.FormatDuration(r.least)),
				})
			}
		}
	}
	return out
}

func twoCompactors(f *facts) (out []finding) {
	byShare := map[string][]string{}
	for _, s := range f.services {
		if s.kind == kindCompactor {
			share := fmt.Sprintf("%q", []string{
				s.flags["selector.relabel-config"], s.flags["selector.relabel-config-file"], s.flags["objstore.config"], s.flags["objstore.config-file"],
			})
			byShare[share] = append(byShare[share], s.name)
		}
	}
	for _, share := range slices.Sorted(maps.Keys(byShare)) {
		if names := byShare[share]; len(names) > 1 {
			out = append(out, finding{
				severe, "two compactors", strings.Join(names, ", "), fmt.Sprintf("%d compactors work on the same blocks: their --selector.relabel-config and --objstore.config are the same", len(names)),
				"stop all but one, or give each a share of its own with --selector.relabel-config; of one bucket each block may have one compactor",
			})
		}
	}
	return out
}

// loops finds queriers that ask themselves by way of others.
func loops(f *facts) (out []finding) {
	byAddress := map[string]*service{}
	for _, s := range f.services {
		if a := s.grpcAddress(); s.kind == kindQuerier && a != "" {
			byAddress[a] = s
		}
	}
	told := map[string]bool{}
	for _, start := range slices.Sorted(maps.Keys(byAddress)) {
		way := loop(byAddress, start, start, map[string]bool{})
		if way == nil {
			continue
		}
		sorted := slices.Sorted(slices.Values(way))
		if key := strings.Join(sorted, " "); !told[key] {
			told[key] = true
			out = append(out, finding{
				severe, "query loop", byAddress[start].name, strings.Join(append(way, start), " asks "),
				"each query goes round until it is refused or times out: take one of these endpoints out",
			})
		}
	}
	return out
}

// loop returns the way from at back to start, nil if there is none.
func loop(byAddress map[string]*service, start, at string, seen map[string]bool) []string {
	seen[at] = true
	for _, st := range byAddress[at].stores {
		if st.Name == start {
			return []string{at}
		}
		if byAddress[st.Name] == nil || seen[st.Name] {
			continue
		}
		if way := loop(byAddress, start, st.Name, seen); way != nil {
			return append([]string{at}, way...)
		}
	}
	return nil
}
