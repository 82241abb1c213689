package promapi

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func form(t testing.TB, query string) Form {
	t.Helper()
	v, err := url.ParseQuery(query)
	require.NoError(t, err)
	return Form{Values: v}
}

func TestParametersComeFromTheURLAndTheBody(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/?query=url&step=1", strings.NewReader("query=body&match[]=a&match[]=b"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	f, err := ParseForm(r)
	require.NoError(t, err)
	require.Equal(t, "body", f.Get("query"))
	require.Equal(t, "1", f.Get("step"))
	require.Equal(t, []string{"a", "b"}, f.Values["match[]"])

	var body bytes.Buffer
	mw := multipart.NewWriter(&body)
	require.NoError(t, mw.WriteField("query", "part"))
	require.NoError(t, mw.Close())
	r = httptest.NewRequest(http.MethodPost, "/", &body)
	r.Header.Set("Content-Type", mw.FormDataContentType())
	f, err = ParseForm(r)
	require.NoError(t, err)
	require.Equal(t, "part", f.Get("query"))

	_, err = ParseForm(&http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: "query=%zz"}})
	require.ErrorContains(t, err, "error parsing form values: invalid URL escape")
	require.Equal(t, ErrorBadData, AsError(err).Type)

	r = httptest.NewRequest(http.MethodPost, "/", strings.NewReader("query="+strings.Repeat("a", maxFormBytes)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = ParseForm(r)
	require.ErrorContains(t, err, "error parsing form values")
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Time{
		"0":                              time.Unix(0, 0),
		"1795427326.8701":                time.UnixMilli(1795427326870),
		"-1.5":                           time.UnixMilli(-1500),
		"1e3":                            time.Unix(1000, 0),
		"2026-11-23T09:48:44.5+01:00":    time.Date(2026, 11, 23, 8, 48, 44, 5e8, time.UTC),
		MinTime.Format(time.RFC3339Nano): MinTime,
		MaxTime.Format(time.RFC3339Nano): MaxTime,
		fmt.Sprint(MinTime.Unix()):       MinTime,
	} {
		got, err := ParseTime(in)
		require.NoError(t, err, in)
		require.True(t, want.Equal(got), "%s: %s", in, got)
	}
	for _, in := range []string{"", "x", "NaN", "Inf", "-Inf", "1e300", "-1e300", "2026-11-23", "9223372036854775807"} {
		_, err := ParseTime(in)
		require.EqualError(t, err, fmt.Sprintf("cannot parse %q to a valid timestamp", in))
	}
	_, err := form(t, "time=x").Time("time", time.Time{})
	require.EqualError(t, err, `invalid time value for 'time': cannot parse "x" to a valid timestamp`)
	require.Equal(t, int64(math.MinInt64/1000+62135596801)*1000, Millis(MinTime))
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"15": 15 * time.Second, "0.5": 500 * time.Millisecond, "-1": -time.Second, "1h30m": 90 * time.Minute, "1d": 24 * time.Hour, "1e1": 10 * time.Second,
	} {
		got, err := ParseDuration(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for in, want := range map[string]string{
		"zz":           `cannot parse "zz" to a valid duration`,
		"":             `cannot parse "" to a valid duration`,
		"NaN":          `cannot parse "NaN" to a valid duration`,
		"Inf":          `cannot parse "Inf" to a valid duration. It overflows int64`,
		"1e18":         `cannot parse "1e18" to a valid duration. It overflows int64`,
		"-1e18":        `cannot parse "-1e18" to a valid duration. It overflows int64`,
		"9223372036.9": `cannot parse "9223372036.9" to a valid duration. It overflows int64`,
	} {
		_, err := ParseDuration(in)
		require.EqualError(t, err, want)
	}
}

func TestAnInstantQueryHasDefaultsAndTakesAllItsParameters(t *testing.T) {
	t.Parallel()
	now := time.Unix(5000, 0)
	def := Defaults{Engine: EnginePrometheus, ReplicaLabels: []string{"replica"}, PartialResponse: true}
	q, err := form(t, "query=up").InstantQuery(def, now)
	require.NoError(t, err)
	require.Equal(t, &InstantQuery{Time: now, QueryOptions: QueryOptions{
		Query: "up", Engine: EnginePrometheus,
		Selection: Selection{Dedup: true, ReplicaLabels: []string{"replica"}, PartialResponse: true},
	}}, q)

	q, err = form(t, url.Values{
		"query": {"up"}, "time": {"7"}, "timeout": {"1m"}, "dedup": {"false"}, "partial_response": {"0"}, "replicaLabels[]": {"a", "b"},
		"storeMatch[]": {`{__address__="x:1"}`, `{__address__=~"y.*"}`}, "max_source_resolution": {"5m"}, "engine": {"thanos"}, "analyze": {"true"},
		"shard_info": {`{"shard_index":1,"total_shards":3,"by":true,"labels":["pod"]}`}, "lookback_delta": {"30"}, "stats": {"all"},
	}.Encode()).InstantQuery(def, now)
	require.NoError(t, err)
	// Matchers with expressions cannot be compared as they are.
	require.Equal(t, `[[__address__="x:1"] [__address__=~"y.*"]]`, fmt.Sprint(q.StoreMatchers))
	q.StoreMatchers = nil
	require.Equal(t, &InstantQuery{Time: time.Unix(7, 0).UTC(), QueryOptions: QueryOptions{
		Query: "up", Engine: EngineThanos, Timeout: time.Minute, LookbackDelta: 30 * time.Second, MaxSourceResolution: 5 * time.Minute,
		Shard: &ShardInfo{ShardIndex: 1, TotalShards: 3, By: true, Labels: []string{"pod"}}, Analyze: true, Stats: "all",
		Selection: Selection{
			ReplicaLabels: []string{"a", "b"},
		},
	}}, q)
}

func TestTheResolutionIsAutomaticOnRequestOrByDefault(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		query        string
		byDefault    bool
		instant, rng time.Duration
		automatic    bool
	}{
		"not asked":           {query: ""},
		"by default":          {query: "", byDefault: true, instant: time.Hour, rng: time.Minute, automatic: true},
		"asked":               {query: "&max_source_resolution=auto", instant: time.Hour, rng: time.Minute, automatic: true},
		"raw despite default": {query: "&max_source_resolution=0s", byDefault: true},
		"seconds":             {query: "&max_source_resolution=300", byDefault: true, instant: 5 * time.Minute, rng: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def := Defaults{AutoDownsampling: tc.byDefault, InstantMaxSourceResolution: time.Hour}
			i, err := form(t, "query=up"+tc.query).InstantQuery(def, time.Now())
			require.NoError(t, err)
			r, err := form(t, "query=up&start=0&end=3000&step=5m"+tc.query).RangeQuery(def)
			require.NoError(t, err)
			require.Equal(t, tc.instant, i.MaxSourceResolution)
			require.Equal(t, tc.rng, r.MaxSourceResolution)
			require.Equal(t, tc.automatic, i.AutoResolution)
			require.Equal(t, tc.automatic, r.AutoResolution)
		})
	}
}

func TestTheDefaultStepGivesAbout250Points(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]time.Duration{
		"start=0&end=5":             time.Second,
		"start=0&end=86400":         345 * time.Second,
		"start=0&end=86400&step=15": 15 * time.Second,
		"start=0&end=11000&step=1":  time.Second,
		"start=0&end=1&step=0.001":  time.Millisecond,
		"start=5&end=5&step=1h30m":  90 * time.Minute,
		"start=0&end=1000000000":    4000000 * time.Second,
	} {
		q, err := form(t, query).RangeQuery(Defaults{Step: time.Second})
		require.NoError(t, err, query)
		require.Equal(t, want, q.Step, query)
	}
	q, err := form(t, "start=0&end=60").RangeQuery(Defaults{})
	require.NoError(t, err)
	require.Equal(t, time.Second, q.Step)
}

func TestBadParametersAreNamed(t *testing.T) {
	t.Parallel()
	instant := func(f Form) error { _, err := f.InstantQuery(Defaults{}, time.Now()); return err }
	ranged := func(f Form) error { _, err := f.RangeQuery(Defaults{}); return err }
	series := func(f Form) error { _, err := f.SeriesQuery(Defaults{}, time.Now()); return err }
	rules := func(f Form) error { _, err := f.RulesQuery(true); return err }
	targets := func(f Form) error { _, err := f.TargetState(); return err }
	metadata := func(f Form) error { _, err := f.MetricMetadataQuery(true); return err }
	tsdb := func(f Form) error { _, err := f.TSDBStatusQuery(true); return err }
	exemplars := func(f Form) error { _, err := f.ExemplarsQuery(true); return err }
	for _, tc := range []struct {
		parse func(Form) error
		query string
		want  string
	}{
		{instant, "time=x", `invalid time value for 'time': cannot parse "x" to a valid timestamp`},
		{instant, "timeout=x", `'timeout' parameter: cannot parse "x" to a valid duration`},
		{instant, "timeout=0", `'timeout' parameter: must be positive`},
		{instant, "partial_response=x", `'partial_response' parameter: strconv.ParseBool: parsing "x": invalid syntax`},
		{instant, "max_source_resolution=-5m", `'max_source_resolution' parameter: cannot parse "-5m" to a valid duration`},
		{instant, "max_source_resolution=-5", `negative 'max_source_resolution' is not accepted. Try a positive integer`},
		{instant, "lookback_delta=x", `'lookback_delta' parameter: cannot parse "x" to a valid duration`},
		{instant, "storeMatch[]={", `'storeMatch[]' parameter: 1:2: parse error: unexpected end of input inside braces`},
		{instant, "shard_info={", `'shard_info' parameter: unexpected end of JSON input`},
		{instant, `shard_info={"shard_index":3,"total_shards":3}`, `'shard_info' parameter: shard_index 3 is not within total_shards 3`},
		{ranged, "end=1", `invalid time value for 'start': cannot parse "" to a valid timestamp`},
		{ranged, "start=1", `invalid time value for 'end': cannot parse "" to a valid timestamp`},
		{ranged, "start=1&end=2&step=-1", `zero or negative query resolution step widths are not accepted. Try a positive integer`},
		{ranged, "start=0&end=11001&step=1", `exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)`},
		{ranged, "start=1&end=2&step=0.0001", `'step' parameter: must be at least 1ms, the resolution of timestamps`},
		{ranged, "start=-9e15&end=9e15&step=1y", `exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)`},
		{ranged, "start=-9e15&end=9e15", `exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)`},
		{ranged, "start=1&end=2&step=x", `'step' parameter: cannot parse "x" to a valid duration`},
		{series, "", `no match[] parameter provided`},
		{series, "match[]={}", `match[] must contain at least one non-empty matcher`},
		{series, "match[]=a&match[]={x=~\".*\"}", `match[] must contain at least one non-empty matcher`},
		{series, "match[]=a(", `'match[]' parameter: 1:2: parse error: unexpected "("`},
		{series, "match[]=a&limit=x", `'limit' parameter: strconv.Atoi: parsing "x": invalid syntax`},
		{series, "match[]=a&limit=-1", `'limit' parameter: limit must be non-negative`},
		{series, "match[]=a&start=2&end=1", `end timestamp must not be before start time`},
		{rules, "type=x", `'type' parameter: not supported value "x"`},
		{rules, "match[]={", `'match[]' parameter: 1:2: parse error: unexpected end of input inside braces`},
		{targets, "state=x", `'state' parameter: not supported value "x", try any, active or dropped`},
		{metadata, "limit=x", `'limit' parameter: limit must be a number`},
		{tsdb, "limit=0", `'limit' parameter: limit must be a positive number`},
		{exemplars, "start=x", `invalid time value for 'start': cannot parse "x" to a valid timestamp`},
	} {
		err := tc.parse(form(t, tc.query))
		require.EqualError(t, err, tc.want, tc.query)
		require.Equal(t, ErrorBadData, AsError(err).Type, tc.query)
	}
}

func TestLabelCallsLookBackAsFarAsConfigured(t *testing.T) {
	t.Parallel()
	now := time.Unix(100000, 0).UTC()
	q, err := form(t, "").LabelsQuery(Defaults{}, now)
	require.NoError(t, err)
	require.Equal(t, MinTime, q.Start)
	require.Equal(t, MaxTime, q.End)

	q, err = form(t, "limit=5&match[]=up").LabelsQuery(Defaults{MetadataRange: time.Hour}, now)
	require.NoError(t, err)
	require.Equal(t, now.Add(-time.Hour), q.Start)
	require.Equal(t, now, q.End)
	require.Equal(t, 5, q.Limit)
	require.Len(t, q.Matchers, 1)

	q, err = form(t, "start=1&end=2").LabelsQuery(Defaults{MetadataRange: time.Hour}, now)
	require.NoError(t, err)
	require.Equal(t, time.Unix(1, 0).UTC(), q.Start)
}

func TestTheOtherCallsHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	rules, err := form(t, "type=alert&rule_name[]=a&rule_group[]=b&file[]=c&match[]=d&partial_response=false").RulesQuery(true)
	require.NoError(t, err)
	require.Equal(t, &RulesQuery{Type: RulesAlerting, Match: []string{"d"}, Names: []string{"a"}, Groups: []string{"b"}, Files: []string{"c"}}, rules)

	meta, err := form(t, "").MetricMetadataQuery(true)
	require.NoError(t, err)
	require.Equal(t, &MetricMetadataQuery{Limit: -1, PartialResponse: true}, meta)
	meta, err = form(t, "limit=0&metric=up").MetricMetadataQuery(false)
	require.NoError(t, err)
	require.Equal(t, &MetricMetadataQuery{Metric: "up"}, meta)

	state, err := form(t, "").TargetState()
	require.NoError(t, err)
	require.Equal(t, TargetsAny, state)

	tsdb, err := form(t, "").TSDBStatusQuery(true)
	require.NoError(t, err)
	require.Equal(t, 10, tsdb.Limit)
}

func TestLabelNamesMayBeEscaped(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"job": "job", "b!d": "b!d", "U__a_2e_b": "a.b", "日": "日"} {
		got, err := ParseLabelName(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "\xff"} {
		_, err := ParseLabelName(in)
		require.ErrorContains(t, err, "invalid label name")
	}
}

func FuzzParameters(f *testing.F) {
	f.Add("query=up&time=1&timeout=1m&dedup=true&max_source_resolution=auto&shard_info={}")
	f.Add("start=0&end=1e9&step=1d&lookback_delta=-1&engine=thanos&match[]=up&storeMatch[]={a=\"b\"}")
	f.Add("start=-292277022399-01-01T00:00:00Z&end=NaN&limit=9999999999999999999&state=any&type=alert")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		fm := Form{Values: v}
		def := Defaults{AutoDownsampling: true, Step: time.Second, MetadataRange: time.Hour}
		check := func(err error) {
			if err != nil {
				require.Equal(t, ErrorBadData, AsError(err).Type)
			}
		}
		if q, err := fm.RangeQuery(def); err == nil {
			require.Positive(t, q.Step)
			require.False(t, q.End.Before(q.Start))
			require.GreaterOrEqual(t, q.MaxSourceResolution, time.Duration(0))
			steps := new(big.Int).Sub(big.NewInt(Millis(q.End)), big.NewInt(Millis(q.Start)))
			steps.Div(steps, big.NewInt(q.Step.Milliseconds()))
			require.LessOrEqual(t, steps.Cmp(big.NewInt(maxPoints)), 0)
		} else {
			check(err)
		}
		q, err := fm.InstantQuery(def, time.Unix(0, 0))
		check(err)
		if err == nil {
			require.GreaterOrEqual(t, q.LookbackDelta, time.Duration(0))
			require.GreaterOrEqual(t, q.Timeout, time.Duration(0))
		}
		_, err = fm.SeriesQuery(def, time.Unix(0, 0))
		check(err)
		_, err = fm.RulesQuery(true)
		check(err)
		_, err = fm.TargetState()
		check(err)
		_, err = fm.MetricMetadataQuery(true)
		check(err)
		_, err = fm.TSDBStatusQuery(true)
		check(err)
		_, err = fm.ExemplarsQuery(true)
		check(err)
	})
}
