package requestlog

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"

	"github.com/promontory-io/promontory/libs/service/flags"
)

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	c := flags.InlineContent("request.logging-config", text)
	p, err := Load(&c)
	require.NoError(t, err)
	return p
}

func TestNothingIsLoggedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	require.True(t, (*Policy)(nil).HTTP("/x", 1).Off())
	require.True(t, (*Policy)(nil).GRPC("/s/m").Off())
	var unset flags.Content
	p, err := Load(&unset)
	require.NoError(t, err)
	require.Nil(t, p)
	require.True(t, parse(t, "options: {level: DEBUG}").HTTP("/x", 1).Off())
}

func TestProtocolOptionsGoBeforeGlobalOnes(t *testing.T) {
	t.Parallel()
	p := parse(t, `
options: {level: ERROR, decision: {log_end: true}}
grpc: {options: {level: debug, decision: {log_start: true, log_end: true}}}
`)
	h, g := p.HTTP("/x", 1), p.GRPC("/thanos.Store/Series")
	_, ok := h.StartLevel()
	require.False(t, ok)
	_, ok = h.EndLevel(false)
	require.False(t, ok, "a success is a debug line, and the level is error")
	level, ok := h.EndLevel(true)
	require.True(t, ok)
	require.Equal(t, zapcore.ErrorLevel, level)
	level, ok = g.StartLevel()
	require.True(t, ok)
	require.Equal(t, zapcore.DebugLevel, level)
	level, ok = g.EndLevel(false)
	require.True(t, ok)
	require.Equal(t, zapcore.DebugLevel, level)
}

func TestListedRequestsAreTheOnlyOnesLogged(t *testing.T) {
	t.Parallel()
	p := parse(t, `
options: {level: DEBUG, decision: {log_end: true}}
http: {config: [{path: /api/v1/query, port: 10902}, {path: /any}]}
grpc: {config: [{service: thanos.Store, method: Series}]}
`)
	require.False(t, p.HTTP("/api/v1/query", 10902).Off())
	require.True(t, p.HTTP("/api/v1/query", 1).Off())
	require.False(t, p.HTTP("/any", 1).Off())
	require.True(t, p.HTTP("/other", 10902).Off())
	require.False(t, p.GRPC("/thanos.Store/Series").Off())
	require.True(t, p.GRPC("/thanos.Store/LabelNames").Off())
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"options: {decision: {log_start: true}}": "--request.logging-config: http.options.decision: log_start needs log_end too",
		"http: {options: {level: LOUD}}":         `--request.logging-config: http.options.level: unknown level "LOUD", want DEBUG, INFO, WARN or ERROR`,
		"grpc: {config: [{service: x}]}":         `--request.logging-config: grpc.config[0]: want a service and a method, have "x" and ""`,
		"http: {config: [{port: 70000}]}":        `--request.logging-config: http.config[0]: want a path and a port, have "" and 70000`,
		"htpp: {}":                               "--request.logging-config:1: unknown key htpp",
	} {
		c := flags.InlineContent("request.logging-config", text)
		_, err := Load(&c)
		require.ErrorContains(t, err, want)
	}
}

func TestFailuresAreTheServersOnly(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]bool{200: false, 204: false, 302: false, 404: false, 422: false, 499: false, 500: true, 503: true, 101: true} {
		require.Equal(t, want, HTTPFailed(code), code)
	}
	for code, want := range map[codes.Code]bool{
		codes.OK: false, codes.InvalidArgument: false, codes.NotFound: false, codes.Canceled: false, codes.ResourceExhausted: false,
		codes.Internal: true, codes.Unknown: true, codes.Unavailable: true,
	} {
		require.Equal(t, want, GRPCFailed(code), code)
	}
}

func FuzzLoadNeverPanics(f *testing.F) {
	f.Add("options: {level: ERROR, decision: {log_end: true}}")
	f.Add("http: {config: [{path: /x, port: 1}]}")
	f.Fuzz(func(_ *testing.T, text string) {
		c := flags.InlineContent("request.logging-config", text)
		if p, err := Load(&c); err == nil {
			p.HTTP("/x", 1)
			p.GRPC("/s/m")
		}
	})
}
