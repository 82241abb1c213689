package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

func TestErrorsHaveTheTypeAndStatusOfTheirCause(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err    error
		typ    ErrorType
		status int
		text   string
	}{
		"bad data":         {BadData("no %s", "x"), ErrorBadData, 400, "no x"},
		"wrapped bad data": {fmt.Errorf("reading: %w", BadData("no x")), ErrorBadData, 400, "reading: no x"},
		"anything":         {errors.New("boom"), ErrorExecution, 422, "boom"},
		"too many samples": {promql.ErrTooManySamples("query execution"), ErrorExecution, 422, "query processing would load too many samples into memory in query execution"},
		"engine cancelled": {promql.ErrQueryCanceled("query execution"), ErrorCanceled, 503, "query was canceled in query execution"},
		"engine timeout":   {promql.ErrQueryTimeout("query execution"), ErrorTimeout, 503, "query timed out in query execution"},
		"engine storage":   {promql.ErrStorage{Err: errors.New("disk")}, ErrorInternal, 500, "disk"},
		"cancelled":        {fmt.Errorf("select: %w", context.Canceled), ErrorCanceled, 503, "select: context canceled"},
		"deadline":         {context.DeadlineExceeded, ErrorTimeout, 503, "context deadline exceeded"},
		"internal":         {NewError(ErrorInternal, errors.New("x")), ErrorInternal, 500, "x"},
		"nil":              {nil, ErrorInternal, 500, "unknown error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			require.NoError(t, RespondError(w, tc.err))
			require.Equal(t, tc.status, w.Code)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			require.JSONEq(t, fmt.Sprintf(`{"status":"error","errorType":%q,"error":%q}`, tc.typ, tc.text), w.Body.String())
		})
	}
}

func TestAnAnswerWithoutDataHasNoContent(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	require.NoError(t, Respond(w, nil, Notes{}))
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Empty(t, w.Body.String())
}

func TestOnlyAnswersFromWhichNothingIsMissingMayBeCached(t *testing.T) {
	t.Parallel()
	promqlOnly := annotations.Annotations{}
	promqlOnly.Add(annotations.NewInvalidQuantileWarning(2, posrange.PositionRange{Start: 0, End: 1}))
	promqlOnly.Add(annotations.NewPossibleNonCounterInfo("x", posrange.PositionRange{Start: 2, End: 3}))
	partial := annotations.Annotations{}
	partial.Merge(promqlOnly)
	partial.Add(errors.New("store b: gone <now>"))
	partial.Add(errors.New("store a: gone"))

	respond := func(n Notes) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		require.NoError(t, Respond(w, Strings{"a"}, n))
		require.Equal(t, http.StatusOK, w.Code)
		return w
	}
	w := respond(NotesFrom(promqlOnly, "rate(x[1m])"))
	require.Empty(t, w.Header().Get("Cache-Control"))
	require.Equal(t, `{"status":"success","data":["a"],`+
		`"warnings":["PromQL warning: quantile value should be between 0 and 1, got 2 (1:1)"],`+
		`"infos":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:3)"]}`, w.Body.String())

	w = respond(NotesFrom(partial, "rate(x[1m])").Flat())
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var got struct {
		Warnings, Infos []string
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Len(t, got.Warnings, 4)
	require.Equal(t, []string{"store a: gone", "store b: gone <now>"}, got.Warnings[:2])
	require.Empty(t, got.Infos)

	require.Equal(t, "no-store", respond(Partial("x")).Header().Get("Cache-Control"))
	require.Empty(t, respond(Partial()).Header().Get("Cache-Control"))
	joined := Partial("x").Join(Notes{Warnings: []string{"y"}, Infos: []string{"z"}})
	require.Equal(t, Notes{Warnings: []string{"x", "y"}, Infos: []string{"z"}, NoStore: true}, joined)
}

func TestManyAnnotationsAreCutButMissingStoresAreNot(t *testing.T) {
	t.Parallel()
	annos := annotations.Annotations{}
	for i := range 15 {
		annos.Add(fmt.Errorf("%w: number %02d", annotations.PromQLWarning, i))
		annos.Add(fmt.Errorf("store %02d is gone", i))
	}
	n := NotesFrom(annos, "x")
	require.Len(t, n.Warnings, 15+10+1)
	require.Equal(t, "store 14 is gone", n.Warnings[14])
	require.Equal(t, "PromQL warning: number 00", n.Warnings[15])
	require.Equal(t, "5 more warning annotations omitted", n.Warnings[25])
	require.Empty(t, n.Infos)
}

func TestStatisticsAndAnalysisStandAfterTheResult(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	require.NoError(t, Respond(w, &QueryData{
		Result:   promql.Vector{{Metric: labels.FromStrings("a", "b"), T: 1000, F: 1}},
		Stats:    stats.NewQueryStats(&stats.Statistics{Timers: stats.NewQueryTimers(), Samples: stats.NewQuerySamples(false)}),
		Analysis: promtypes.Analysis{Name: "[x]", ExecutionTime: "1ms", Fanout: []promtypes.FanoutResult{{EndpointAddr: "a:1", Series: 2}}},
	}, Notes{}))
	require.Equal(t, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"1"]}],`+
		`"stats":{"timings":{"evalTotalTime":0,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":0,"execQueueTime":0,"execTotalTime":0},`+
		`"samples":{"totalQueryableSamples":0,"peakSamples":0}},`+
		`"analysis":{"name":"[x]","executionTime":"1ms","fanout":[{"endpointAddr":"a:1","series":2}]}}}`, w.Body.String())
}

func TestDataThatCannotBeEncodedIsAnInternalError(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]Data{
		"NaN as a number": JSON{math.NaN()},
		"no value":        &QueryData{},
		"half a rule":     JSON{promtypes.Rule{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			require.Error(t, Respond(w, data, Notes{}))
			require.Equal(t, http.StatusInternalServerError, w.Code)
			require.Contains(t, w.Body.String(), `{"status":"error","errorType":"internal","error":"encode `)
		})
	}
}

type failingWriter struct {
	http.ResponseWriter
	writes int
}

func (f *failingWriter) Write([]byte) (int, error) {
	f.writes++
	return 0, errors.New("connection reset")
}

func TestAWriterThatFailsEndsTheEncoding(t *testing.T) {
	t.Parallel()
	w := &failingWriter{ResponseWriter: httptest.NewRecorder()}
	require.ErrorContains(t, Respond(w, &QueryData{Result: syntheticMatrix(50, 1000)}, Notes{}), "connection reset")
	require.Equal(t, 1, w.writes)

	w = &failingWriter{ResponseWriter: httptest.NewRecorder()}
	produced := 0
	seq := LabelSetSeq(func(yield func(labels.Labels) bool) {
		for {
			produced++
			if !yield(labels.FromStrings("a", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")) {
				return
			}
		}
	})
	require.ErrorContains(t, Respond(w, seq, Notes{}), "connection reset")
	require.Less(t, produced, 2000)
}
