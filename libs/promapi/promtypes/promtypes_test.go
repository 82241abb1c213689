package promtypes

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func TestARuleIsOneOfTwoKinds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"state":"firing","name":"A","query":"up","duration":1.5,"labels":{"a":"b"},"annotations":{},"alerts":[],"health":"err","lastError":"boom",` +
			`"evaluationTime":0.1,"lastEvaluation":"2026-11-23T09:48:44Z","keepFiringFor":0,"type":"alerting"}`,
		`{"name":"r","query":"up","labels":{},"health":"ok","evaluationTime":0,"lastEvaluation":"2026-11-23T09:48:44Z","type":"recording"}`,
	} {
		var r Rule
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		back, err := json.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, text, string(back))
	}
	var r Rule
	require.ErrorContains(t, json.Unmarshal([]byte(`{"type":"other","x":"`+strings.Repeat("y", 500)+`"}`), &r), `rule has unknown type "other" in {"type":"other"`)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"type":"alerting","duration":"x"}`), &r), "duration")
	_, err := json.Marshal(Rule{})
	require.ErrorContains(t, err, "rule is neither alerting nor recording")
	_, err = json.Marshal(Rule{Alerting: &AlertingRule{Name: "A"}, Recording: &RecordingRule{}})
	require.ErrorContains(t, err, `rule "A" is both`)
}

func TestExemplarsSurviveTheWay(t *testing.T) {
	t.Parallel()
	for ms, text := range map[int64]string{0: "0", 1: "0.001", -1: "-0.001", -1500: "-1.500", 1600096945479: "1600096945.479", -2000: "-2"} {
		x := Exemplar{Labels: labels.FromStrings("trace", "<1>"), Value: 1e-9, Timestamp: ms}
		b, err := json.Marshal(x)
		require.NoError(t, err)
		require.Equal(t, `{"labels":{"trace":"\u003c1\u003e"},"value":"1e-09","timestamp":`+text+`}`, string(b))
		var back Exemplar
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, x, back)
	}
	var x Exemplar
	require.ErrorContains(t, json.Unmarshal([]byte(`{"value":"x","timestamp":1}`), &x), "exemplar value")
	require.ErrorContains(t, json.Unmarshal([]byte(`{"value":"1","timestamp":1e300}`), &x), "out of range")
}
