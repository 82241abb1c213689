package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func timeouts(f *facts) (out []finding) {
	for _, s := range f.services {
		if s.kind != kindQuerier {
			continue
		}
		query, hasQuery := s.duration("query.timeout")
		store, hasStore := s.duration("store.response-timeout")
		if hasQuery && hasStore && store >= query {
			out = append(out, finding{
				warning, "timeouts in the wrong order", s.name, fmt.Sprintf("--store.response-timeout=%s is not below --query.timeout=%s", s.flags["store.response-timeout"], s.flags["query.timeout"]),
				"one slow store makes the whole query time out, where it could be left out with a warning: set --store.response-timeout well below --query.timeout",
			})
		}
	}
	return out
}

// limit is a flag whose zero value switches a bound off.
type limit struct{ kind, flag, mend string }

func limits() []limit {
	const series = "one query may ask for every series there is: set it to a few times what the largest dashboard needs"
	return []limit{
		{kindStore, "store.limits.request-series", series},
		{kindReceiver, "store.limits.request-series", series},
		{kindQuerier, "query.max-concurrent", "any number of queries run at once: set it to some times the number of cores"},
		{kindStore, "store.grpc.series-max-concurrency", "any number of requests are served at once: the default is 20"},
		{kindQuerier, "query-range.max-query-length", "a query over years is not refused: set it to what is kept at most"},
		{kindReceiver, "tsdb.too-far-in-future.time-window", "one sample from the future makes all that follow out of order: 1h is enough for clocks that differ"},
	}
}

func noLimits(f *facts) (out []finding) {
	for _, s := range f.services {
		for _, l := range limits() {
			if s.kind != l.kind {
				continue
			}
			value, known := s.flags[l.flag]
			if known && (value == "0" || value == "0s" || value == "0B") {
				out = append(out, finding{advice, "disabled limit", s.name, fmt.Sprintf("--%s=%s", l.flag, value), l.mend})
			}
		}
	}
	return out
}

// clockTolerance is what differences below are taken for: the second that the header is cut to, and the way.
const clockTolerance = 5 * time.Second

func clocks(f *facts) (out []finding) {
	for _, s := range f.services {
		if s.hasClock && s.ahead.Abs() > clockTolerance {
			which := "ahead of"
			if s.ahead < 0 {
				which = "behind"
			}
			out = append(out, finding{
				warning, "clocks differ", s.name, fmt.Sprintf("its clock is %s %s this machine's", s.ahead.Abs().Round(time.Second), which),
				"samples come too late or from the future, deletion delays and consistency delays are off: synchronise both clocks with NTP",
			})
		}
	}
	return out
}

// oldFlag is a flag that is deprecated or does nothing any more.
type oldFlag struct{ kind, flag, mend string }

func deprecatedFlags() []oldFlag {
	const sd = "list the endpoints in --endpoint.sd-config"
	const asks = "leave it out: what an endpoint serves is found out by asking it"
	return []oldFlag{
		{kindQuerier, "store", sd},
		{kindQuerier, "store-strict", sd},
		{kindQuerier, "endpoint", sd},
		{kindQuerier, "endpoint-strict", sd},
		{kindQuerier, "endpoint-group", sd},
		{kindQuerier, "endpoint-group-strict", sd},
		{kindQuerier, "store.sd-files", sd},
		{kindQuerier, "rule", asks},
		{kindQuerier, "target", asks},
		{kindQuerier, "metadata", asks},
		{kindQuerier, "exemplar", asks},
		{kindStore, "store.grpc.touched-series-limit", "use --store.limits.request-series"},
		{kindStore, "store.grpc.series-sample-limit", "use --store.limits.request-samples"},
		{kindReceiver, "receive.forward.async-workers", "leave it out: messages to a node are bounded in bytes"},
		{kindReceiver, "tsdb.allow-overlapping-blocks", "leave it out: blocks may always overlap"},
		{"", "log.request.decision", "use --request.logging-config"},
	}
}

func oldFlags(f *facts) (out []finding) {
	for _, s := range f.services {
		for _, o := range deprecatedFlags() {
			value := s.flags[o.flag]
			if o.kind != "" && s.kind != o.kind || value == "" || value == "0" || value == "false" || value == "[]" {
				continue
			}
			out = append(out, finding{advice, "deprecated flag", s.name, fmt.Sprintf("--%s=%s", o.flag, value), o.mend})
		}
		for _, name := range slices.Sorted(maps.Keys(s.flags)) {
			if value := s.flags[name]; strings.HasPrefix(name, "cluster.") && value != "" && value != "false" {
				out = append(out, finding{advice, "deprecated flag", s.name, fmt.Sprintf("--%s=%s", name, value), "leave it out: peers are not found by gossip any more"})
			}
		}
	}
	return out
}
