package objstore

import (
	"errors"
	"testing"

	kitlog "github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestGoKitLinesArriveInZap(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	logger := kitlog.With(newKitLogger(zap.New(core)), "ts", kitlog.DefaultTimestampUTC, "part", kitlog.Valuer(func() any { return "s3" }))
	require.NoError(t, level.Debug(logger).Log("msg", "one", "n", 1))
	require.NoError(t, level.Warn(logger).Log("msg", "two", "err", errors.New("broken")))
	require.NoError(t, level.Error(logger).Log("msg", "three", "err", "as text"))
	require.NoError(t, logger.Log("msg", "four", "odd"))

	entries := logs.AllUntimed()
	require.Len(t, entries, 4)
	for i, want := range []struct {
		level  zapcore.Level
		msg    string
		fields map[string]any
	}{
		{zap.DebugLevel, "one", map[string]any{"part": "s3", "n": int64(1)}},
		{zap.WarnLevel, "two", map[string]any{"part": "s3", "error": "broken"}},
		{zap.ErrorLevel, "three", map[string]any{"part": "s3", "error": "as text"}},
		{zap.InfoLevel, "four", map[string]any{"part": "s3", "odd": "(MISSING)"}},
	} {
		require.Equal(t, want.level, entries[i].Level)
		require.Equal(t, want.msg, entries[i].Message)
		require.Equal(t, want.fields, entries[i].ContextMap())
	}
}
