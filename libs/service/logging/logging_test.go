package logging

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gokit "github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// encode writes one entry at a fixed time and returns the line.
func encode(t *testing.T, enc zapcore.Encoder, e zapcore.Entry, fields ...zap.Field) string {
	t.Helper()
	e.Time = time.Date(2026, 3, 1, 13, 0, 0, 5_000_000, time.FixedZone("", 3600))
	buf, err := enc.EncodeEntry(e, fields)
	require.NoError(t, err)
	return buf.String()
}

type point struct{ x, y int }

func (p point) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddInt("x", p.x)
	enc.AddInt("y", p.y)
	return nil
}

func TestLogfmtLineHoldsEntryThenFields(t *testing.T) {
	t.Parallel()
	enc := newLogfmtEncoder()
	e := zapcore.Entry{
		Level: zapcore.WarnLevel, LoggerName: "store", Message: "block is broken",
		Caller: zapcore.NewEntryCaller(0, "/src/libs/block/meta.go", 12, true),
	}
	got := encode(t, enc, e, zap.String("block", "01ABC"), zap.Error(errors.New("no such file")), zap.Duration("took", 1500*time.Millisecond))
	require.Equal(t, `ts=2026-03-01T12:00:00.005Z caller=meta.go:12 level=warn logger=store msg="block is broken" block=01ABC error="no such file" took=1.5s`+"\n", got)
}

func TestLogfmtWritesEveryKindOfField(t *testing.T) {
	t.Parallel()
	const head = "ts=2026-03-01T12:00:00.005Z level=info msg=m "
	for name, tc := range map[string]struct {
		field zap.Field
		want  string
	}{
		"empty string":       {zap.String("k", ""), `k=""`},
		"quotes":             {zap.String("k", `say "hi" \o/`), `k="say \"hi\" \\o/"`},
		"equals sign":        {zap.String("k", "a=b"), `k="a=b"`},
		"line breaks":        {zap.String("k", "a\nb\tc\r"), `k="a\nb\tc\r"`},
		"control characters": {zap.String("k", "\x00\x1b\x7f"), `k="\u0000\u001b\u007f"`},
		"no UTF-8":           {zap.String("k", "a\xffb"), "k=\"a\ufffdb\""},
		"unicode":            {zap.String("k", "grün"), `k=grün`},
		"bad key":            {zap.String("a b=\"c", "v"), `a_b__c=v`},
		"empty key":          {zap.String("", "v"), `_=v`},
		"bool":               {zap.Bool("k", true), `k=true`},
		"int":                {zap.Int("k", -3), `k=-3`},
		"uint64":             {zap.Uint64("k", 1<<63), `k=9223372036854775808`},
		"float":              {zap.Float64("k", 0.1), `k=0.1`},
		"float32":            {zap.Float32("k", 0.1), `k=0.1`},
		"complex":            {zap.Complex128("k", 1+2i), `k=(1+2i)`},
		"time":               {zap.Time("k", time.Unix(0, 0)), `k=1970-01-01T00:00:00.000Z`},
		"bytes":              {zap.ByteString("k", []byte("x y")), `k="x y"`},
		"binary":             {zap.Binary("k", []byte{1, 2}), `k="AQI="`},
		"strings":            {zap.Strings("k", []string{"a", "b c"}), `k="[\"a\",\"b c\"]"`},
		"durations":          {zap.Durations("k", []time.Duration{time.Second}), `k="[\"1s\"]"`},
		"object":             {zap.Object("p", point{1, 2}), `p.x=1 p.y=2`},
		"objects":            {zap.Objects("p", []point{{1, 2}}), `p="[{\"x\":1,\"y\":2}]"`},
		"map":                {zap.Any("k", map[string]int{"b": 2, "a": 1}), `k="{\"a\":1,\"b\":2}"`},
		"angle brackets":     {zap.Any("k", map[string]string{"a": "<b>"}), `k="{\"a\":\"<b>\"}"`},
		"stringer":           {zap.Stringer("k", time.Minute), `k=1m0s`},
		"inline":             {zap.Inline(point{3, 4}), `x=3 y=4`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := encode(t, newLogfmtEncoder(), zapcore.Entry{Message: "m"}, tc.field)
			require.Equal(t, head+tc.want+"\n", got)
		})
	}
}

func TestLogfmtFieldsOfWithAndNamespacesStayWithTheirLogger(t *testing.T) {
	t.Parallel()
	base := newLogfmtEncoder()
	child := base.Clone()
	child.AddString("tenant", "a")
	child.OpenNamespace("req")
	require.Equal(t, "ts=2026-03-01T12:00:00.005Z level=info msg=m tenant=a req.id=1\n", encode(t, child, zapcore.Entry{Message: "m"}, zap.Int("id", 1)))
	require.Equal(t, "ts=2026-03-01T12:00:00.005Z level=info msg=m id=1\n", encode(t, base, zapcore.Entry{Message: "m"}, zap.Int("id", 1)))
	require.Equal(t, "ts=2026-03-01T12:00:00.005Z level=info msg=m tenant=a req.id=2\n", encode(t, child, zapcore.Entry{Message: "m"}, zap.Int("id", 2)))
}

type detailed struct{}

func (detailed) Error() string { return "short" }
func (detailed) Format(s fmt.State, _ rune) {
	_, _ = s.Write([]byte("short\nwith a stack\nof lines"))
}

func TestLogfmtLeavesTheStackOfAnErrorOut(t *testing.T) {
	t.Parallel()
	got := encode(t, newLogfmtEncoder(), zapcore.Entry{Message: "m"}, zap.Error(detailed{}))
	require.Equal(t, "ts=2026-03-01T12:00:00.005Z level=info msg=m error=short\n", got)
}

func FuzzLogfmtEntryIsOneLine(f *testing.F) {
	f.Add("k", "v", "m")
	f.Add("k\n=", "\"\\\n\x00\xff\u2028", "")
	f.Fuzz(func(t *testing.T, key, val, msg string) {
		buf, err := newLogfmtEncoder().EncodeEntry(zapcore.Entry{Message: msg}, []zap.Field{zap.String(key, val)})
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(buf.String(), "\n"), "%q", buf.String())
	})
}

func TestLevelsFilter(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1} {
		var out bytes.Buffer
		l, err := New(Config{Level: word, Format: "logfmt"}, &out)
		require.NoError(t, err)
		l.Debug("a")
		l.Info("a")
		l.Warn("a")
		l.Error("a")
		require.Equal(t, want, strings.Count(out.String(), "\n"), word)
	}
}

func TestJSONUsesTheSameKeys(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := New(Config{Level: "info", Format: "json", DebugName: "q1"}, &out)
	require.NoError(t, err)
	l.Named("part").Info("hello", zap.Duration("took", time.Second))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Contains(t, got["caller"], "logging_test.go:")
	delete(got, "caller")
	require.NotEmpty(t, got["ts"])
	delete(got, "ts")
	require.Equal(t, map[string]any{"level": "info", "logger": "part", "msg": "hello", "name": "q1", "took": "1s"}, got)
}

func TestUnknownFormatAndLevelAreErrorsWithTheirFlag(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Level: "info", Format: "xml"}, &bytes.Buffer{})
	require.EqualError(t, err, `--log.format=xml: unknown format "xml"`)
	_, err = New(Config{Level: "loud", Format: "json"}, &bytes.Buffer{})
	require.ErrorContains(t, err, "--log.level: ")
}

func TestSlogKeepsLevelNameCallerAndNoStack(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := New(Config{Level: "info", Format: "logfmt"}, &out)
	require.NoError(t, err)
	s := Slog(l.Named("tsdb"))
	s.Debug("not logged")
	s.Error("boom", "err", errors.New("x y"), slog.Group("g", "a", 1))
	require.Regexp(t, `^ts=\S+ caller=logging_test.go:\d+ level=error logger=tsdb msg=boom err="x y" g.a=1\n$`, out.String())
}

func TestGoKitKeepsLevelAndMessage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := New(Config{Level: "info", Format: "logfmt"}, &out)
	require.NoError(t, err)
	g := gokit.With(GoKit(l), "component", gokit.Valuer(func() any { return "bucket" }), "caller", gokit.DefaultCaller)
	require.NoError(t, level.Debug(g).Log("msg", "not logged"))
	require.NoError(t, level.Warn(g).Log("msg", "slow", "took", time.Second, "err", errors.New("x"), "odd"))
	require.NoError(t, g.Log("msg", "plain"))
	lines := strings.Split(out.String(), "\n")
	require.Regexp(t, `^ts=\S+ level=warn msg=slow component=bucket took=1s err=x odd=\(MISSING\)$`, lines[0])
	require.Regexp(t, `^ts=\S+ level=info msg=plain component=bucket$`, lines[1])
}

func TestJournalGetsMessagePriorityAndPosition(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	srv, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer srv.Close()
	core, err := newJournalCore(path, zapcore.InfoLevel)
	require.NoError(t, err)
	l := zap.New(core, zap.AddCaller()).Named("part").With(zap.String("tenant", "a"))
	l.Debug("not sent")
	l.Error("boom")
	buf := make([]byte, 1<<16)
	require.NoError(t, srv.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := srv.Read(buf)
	require.NoError(t, err)
	require.Regexp(t, `^MESSAGE=ts=\S+ caller=logging_test.go:\d+ level=error logger=part msg=boom tenant=a
PRIORITY=3
LOGGER=part
CODE_FILE=\S+/logging_test.go
CODE_LINE=\d+
$`, string(buf[:n]))

	_, err = newJournalCore(filepath.Join(t.TempDir(), "none"), zapcore.InfoLevel)
	require.ErrorContains(t, err, "connect to journald")
}

func TestJournalFieldWithLineBreakIsSentWithItsLength(t *testing.T) {
	t.Parallel()
	out := newLogfmtEncoder().buf
	journalField(out, "A", "x\ny")
	want := append([]byte("A\n"), binary.LittleEndian.AppendUint64(nil, 3)...)
	require.Equal(t, append(want, "x\ny\n"...), out.Bytes())
}

func BenchmarkLogfmt(b *testing.B) {
	enc := newLogfmtEncoder()
	e := zapcore.Entry{Message: "request done", LoggerName: "http", Time: time.Now()}
	fields := []zap.Field{zap.String("path", "/api/v1/query"), zap.Int("code", 200), zap.Duration("took", time.Second)}
	b.ReportAllocs()
	for b.Loop() {
		buf, err := enc.EncodeEntry(e, fields)
		if err != nil {
			b.Fatal(err)
		}
		buf.Free()
	}
}
