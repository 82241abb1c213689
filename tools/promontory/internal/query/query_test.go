package query

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// fake answers every query with one body and keeps what was asked.
type fake struct {
	*httptest.Server

	path string
	form url.Values
}

func answering(t *testing.T, status int, body string) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		f.path, f.form = r.URL.Path, r.Form
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(f.Close)
	return f
}

func runArgs(t *testing.T, args ...string) (out, notes string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := NewCommand()
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

const vector = `{"status":"success","data":{"resultType":"vector","result":[
  {"metric":{"__name__":"up","job":"a"},"value":[1700000000,"1"]},
  {"metric":{"__name__":"up","job":"b"},"value":[1700000000,"0"]}]},"warnings":["store-2 did not answer"]}`

func TestAnInstantQueryIsATableWithItsWarningsBeside(t *testing.T) {
	t.Parallel()
	server := answering(t, http.StatusOK, vector)
	out, notes, err := runArgs(t, "--query="+server.URL+"/prefix", "--time=2023-11-14T22:13:20Z", "--no-dedup", "--max-source-resolution=5m", "up")
	require.NoError(t, err)
	require.Equal(t, "SERIES       VALUE\nup{job=\"a\"}  1\nup{job=\"b\"}  0\n", out)
	require.Equal(t, "warning: store-2 did not answer\n", notes)
	require.Equal(t, "/prefix/api/v1/query", server.path)
	require.Equal(t, url.Values{
		"query": {"up"}, "time": {"1700000000.000"}, "dedup": {"false"}, "partial_response": {"true"}, "max_source_resolution": {"5m"},
	}, server.form)
}

func TestEveryFormatHasEverySample(t *testing.T) {
	t.Parallel()
	server := answering(t, http.StatusOK, vector)
	out, _, err := runArgs(t, "--query="+server.URL, "--output=tsv", "up")
	require.NoError(t, err)
	require.Equal(t, "SERIES\tTIME\tVALUE\n\"up{job=\"\"a\"\"}\"\t2023-11-14T22:13:20Z\t1\n\"up{job=\"\"b\"\"}\"\t2023-11-14T22:13:20Z\t0\n", out)
	out, _, err = runArgs(t, "--query="+server.URL, "--output=json", "up")
	require.NoError(t, err)
	var got struct {
		ResultType string
		Result     model.Vector
		Warnings   []string
	}
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, "vector", got.ResultType)
	require.Len(t, got.Result, 2)
	require.Equal(t, []string{"store-2 did not answer"}, got.Warnings)
}

func TestARangeShowsTheCourseOfEachSeries(t *testing.T) {
	t.Parallel()
	server := answering(t, http.StatusOK, `{"status":"success","data":{"resultType":"matrix","result":[
	  {"metric":{"job":"a"},"values":[[100,"0"],[110,"7"],[130,"14"]]}]}}`)
	out, notes, err := runArgs(t, "--query="+server.URL, "--start=1970-01-01T00:01:40Z", "--end=1970-01-01T00:02:20Z", "--step=10s", "rate(x[1m])")
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Contains(t, out, "1970-01-01T00:01:40Z to 1970-01-01T00:02:20Z, a step of 10s")
	require.Contains(t, out, `{job="a"}  ▁▅ █    0    14   14    3`)
	require.Equal(t, "/api/v1/query_range", server.path)
	require.Equal(t, "10", server.form.Get("step"))
}

func TestWarningsCanFailTheCommand(t *testing.T) {
	t.Parallel()
	server := answering(t, http.StatusOK, vector)
	out, _, err := runArgs(t, "--query="+server.URL, "--fail-on-warning", "up")
	require.ErrorContains(t, err, "1 warnings")
	require.Contains(t, out, `up{job="b"}`)
}

func TestARefusalIsReportedWithItsReason(t *testing.T) {
	t.Parallel()
	server := answering(t, http.StatusBadRequest, `{"status":"error","errorType":"bad_data","error":"parse error: unexpected end of input"}`)
	out, _, err := runArgs(t, "--query="+server.URL, "sum(")
	require.ErrorContains(t, err, "unexpected end of input")
	require.ErrorContains(t, err, server.URL)
	require.Empty(t, out)
}

func TestFlagsThatContradictEachOtherAreNamed(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"--query":                          {"up"},
		`"querier:10902" is no URL`:        {"--query=querier:10902", "up"},
		"--end: a range needs":             {"--query=http://x", "--end=-1h", "up"},
		"--time: is of instant queries":    {"--query=http://x", "--start=-1h", "--time=-1h", "up"},
		"--step: needs --start":            {"--query=http://x", "--step=1m", "up"},
		"--output":                         {"--query=http://x", "--output=xml", "up"},
		"accepts 1 arg(s)":                 {"--query=http://x"},
		"--start: 2026-01-02T00:00:00Z is": {"--query=http://127.0.0.1:1", "--start=2026-01-02T00:00:00Z", "--end=2026-01-01T00:00:00Z", "up"},
	} {
		_, _, err := runArgs(t, args...)
		require.ErrorContains(t, err, want, "%v", args)
	}
}

func TestARangeWithoutAStepIsCutIntoSixty(t *testing.T) {
	t.Parallel()
	c := defaultConfig()
	now := time.UnixMilli(1_700_000_000_000)
	var err error
	c.start, err = flags.ParseWhen("-1h")
	require.NoError(t, err)
	g, err := c.grid(now)
	require.NoError(t, err)
	require.Equal(t, grid{start: now.Add(-time.Hour).UnixMilli(), end: now.UnixMilli(), step: 60_000}, g)
}

func TestTheCourseIsDrawnToItsGrid(t *testing.T) {
	t.Parallel()
	at := func(seconds int64, v float64) model.SamplePair {
		return model.SamplePair{Timestamp: model.Time(seconds * 1000), Value: model.SampleValue(v)}
	}
	g := grid{end: 3000, step: 1000}
	for _, tt := range []struct {
		name   string
		values []model.SamplePair
		grid   grid
		width  int
		want   string
	}{
		{"rising", []model.SamplePair{at(0, 0), at(1, 1), at(2, 2), at(3, 3)}, g, 10, "▁▃▆█"},
		{"level", []model.SamplePair{at(0, 5), at(1, 5), at(2, 5), at(3, 5)}, g, 10, "▁▁▁▁"},
		{"gaps", []model.SamplePair{at(1, 1), at(3, 3)}, g, 10, " ▁ █"},
		{"several steps a character", []model.SamplePair{at(0, 0), at(1, 0), at(2, 8), at(3, 8)}, g, 2, "▁█"},
		{"not numbers", []model.SamplePair{at(0, math.NaN()), at(1, 1), at(2, math.Inf(1)), at(3, 2)}, g, 10, " ▁ █"},
		{"nothing but them", []model.SamplePair{at(0, math.NaN())}, g, 10, ""},
		{"the largest", []model.SamplePair{at(0, -math.MaxFloat64), at(3, math.MaxFloat64)}, g, 10, "▁  █"},
		{"outside", []model.SamplePair{at(-5, 1), at(9, 1)}, g, 10, ""},
	} {
		require.Equal(t, tt.want, course(tt.values, tt.grid, tt.width), tt.name)
	}
}

func TestTheHelpShowsNoTimeThatStandsForNone(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := NewCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	require.NoError(t, cmd.ExecuteContext(t.Context()))
	require.Contains(t, out.String(), "--start")
	require.NotContains(t, out.String(), "0001-01-01")
}
