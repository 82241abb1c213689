package app

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// recordedFrames are by method.
func recordedFrames(t *testing.T) map[string][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "wire.jsonl"))
	require.NoError(t, err)
	defer f.Close()
	out := map[string][]byte{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var line struct{ Method, Frame string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		out[line.Method], err = hex.DecodeString(line.Frame)
		require.NoError(t, err)
	}
	return out
}

func TestRulesAndInfoAreOnTheWireAsRecorded(t *testing.T) {
	q := newQuerier(t)
	grpcAddr := ""
	start(t, func(c *Config) {
		addrs, err := procs.FreeAddrs(1)
		require.NoError(t, err)
		grpcAddr, c.Common.GRPC.Address = addrs[0], addrs[0]
		c.Query.Addresses = []string{q.URL}
		c.Labels = []flags.Label{{Name: "rule_replica", Value: "r0"}}
		c.RuleFiles = []string{ruleFile(t, `groups: [{name: tg, interval: 2s, partial_response_strategy: WARN, rules: [{record: 'cluster:up:sum', expr: sum by (cluster) (up)}, {alert: Always, expr: vector(1), labels: {severity: info}}]}]`)}
	})
	frames := recordedFrames(t)
	conn, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()

	var want thanos.RulesResponse
	require.NoError(t, want.UnmarshalVT(frames["/thanos.Rules/Rules"]))
	var got *thanos.RulesResponse
	require.Eventually(t, func() bool {
		stream, err := thanos.NewRulesClient(conn).Rules(t.Context(), &thanos.RulesRequest{})
		require.NoError(t, err)
		// The groups come one after another at the start; what they hold is compared below.
		if got, err = stream.Recv(); err != nil || len(got.GetGroup().GetRules()) < 2 {
			return false
		}
		return got.GetGroup().GetRules()[1].GetAlert().GetState() == thanos.AlertState_FIRING
	}, wait, tick)
	// What differs from run to run.
	g, w := got.GetGroup(), want.GetGroup()
	g.File, g.EvaluationDurationSeconds, g.LastEvaluation = w.GetFile(), w.GetEvaluationDurationSeconds(), w.GetLastEvaluation()
	record, alert := g.GetRules()[0].GetRecording(), g.GetRules()[1].GetAlert()
	wantRecord, wantAlert := w.GetRules()[0].GetRecording(), w.GetRules()[1].GetAlert()
	record.EvaluationDurationSeconds, record.LastEvaluation = wantRecord.GetEvaluationDurationSeconds(), wantRecord.GetLastEvaluation()
	alert.EvaluationDurationSeconds, alert.LastEvaluation = wantAlert.GetEvaluationDurationSeconds(), wantAlert.GetLastEvaluation()
	alert.GetAlerts()[0].ActiveAt = wantAlert.GetAlerts()[0].GetActiveAt()
	raw, err := got.MarshalVT()
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(frames["/thanos.Rules/Rules"]), hex.EncodeToString(raw))

	var wantInfo info.InfoResponse
	require.NoError(t, wantInfo.UnmarshalVT(frames["/thanos.info.Info/Info"]))
	gotInfo, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
	require.NoError(t, err)
	gotInfo.Store.MinTime, gotInfo.Store.TsdbInfos[0].MinTime = wantInfo.GetStore().GetMinTime(), wantInfo.GetStore().GetTsdbInfos()[0].GetMinTime()
	raw, err = gotInfo.MarshalVT()
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(frames["/thanos.info.Info/Info"]), hex.EncodeToString(raw))
}
