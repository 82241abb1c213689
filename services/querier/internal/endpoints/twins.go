package endpoints

import (
	"strings"

	"go.uber.org/zap"
)

// twins returns the healthy peers that announce the same external labels although each has a database of its own,
// as lists of addresses by these labels. Labels tell producers apart: of what twins hold, deduplication and compaction
// take one for the other. Peers of which nothing is known to be a single database may share theirs.
func twins(list []Endpoint) map[string][]string {
	out := map[string][]string{}
	for i := range list {
		e := &list[i]
		if e.Err != nil || !namesOneDatabase(e.ComponentType) || len(e.LabelSets) == 0 {
			continue
		}
		var key strings.Builder
		for _, set := range e.LabelSets {
			key.WriteString(set.String())
		}
		out[key.String()] = append(out[key.String()], e.Addr)
	}
	for key, addrs := range out {
		if len(addrs) < 2 {
			delete(out, key)
		}
	}
	return out
}

// warnOfTwins logs those that were not there in the last round.
func (s *Set) warnOfTwins(list []Endpoint) {
	warned := map[string]string{}
	for set, addrs := range twins(list) {
		warned[set] = strings.Join(addrs, " ")
		if s.warned[set] != warned[set] {
			s.deps.Logger.Warn("endpoints announce the same external labels: their data cannot be told apart; give each producer labels of its own",
				zap.Strings("addresses", addrs), zap.String("external_labels", set))
		}
	}
	s.warned = warned
}
