package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ptr(n int64) *int64 { return &n }

func newBucket(t testing.TB, rules ...Rule) *Bucket {
	t.Helper()
	mem := objstore.NewInMemBucket()
	for _, name := range []string{"a/index", "a/chunks/000001", "b/index"} {
		require.NoError(t, mem.Upload(context.Background(), name, strings.NewReader("0123456789")))
	}
	bkt, err := Wrap(mem, Config{Seed: 1, Rules: rules})
	require.NoError(t, err)
	return bkt
}

// pattern runs an operation n times and draws what failed as x.
func pattern(n int, op func() error) string {
	var sb strings.Builder
	for range n {
		if op() != nil {
			sb.WriteByte('x')
		} else {
			sb.WriteByte('.')
		}
	}
	return sb.String()
}

func exists(ctx context.Context, bkt *Bucket, name string) func() error {
	return func() error { _, err := bkt.Exists(ctx, name); return err }
}

func TestRulesHitWhatTheySay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule Rule
		want string
	}{
		"always":               {Rule{Error: ErrorPlain}, "xxxxxxxxxx"},
		"every third":          {Rule{Error: ErrorPlain, Every: 3}, "..x..x..x."},
		"after two":            {Rule{Error: ErrorPlain, After: 2}, "..xxxxxxxx"},
		"twice":                {Rule{Error: ErrorPlain, Times: 2}, "xx........"},
		"all together":         {Rule{Error: ErrorPlain, After: 1, Every: 2, Times: 3}, "..x.x.x..."},
		"another operation":    {Rule{Error: ErrorPlain, Operations: []string{Get}}, ".........."},
		"this operation":       {Rule{Error: ErrorPlain, Operations: []string{Get, Exists}}, "xxxxxxxxxx"},
		"another name":         {Rule{Error: ErrorPlain, Name: "^b/"}, ".........."},
		"part of this name":    {Rule{Error: ErrorPlain, Name: "ind"}, "xxxxxxxxxx"},
		"share is drawn":       {Rule{Error: ErrorPlain, Share: 0.5}, "x.x.xx.xx."},
		"share of every other": {Rule{Error: ErrorPlain, Share: 0.5, Every: 2}, ".x...x...x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := pattern(10, exists(t.Context(), newBucket(t, tc.rule), "a/index"))
			if tc.rule.Share == 0 {
				require.Equal(t, tc.want, got)
				return
			}
			require.Equal(t, got, pattern(10, exists(t.Context(), newBucket(t, tc.rule), "a/index")), "the same seed draws the same")
			require.Contains(t, got, "x")
			require.Contains(t, got, ".")
		})
	}
}

func TestShareIsAboutRight(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t, Rule{Share: 0.5, Error: ErrorPlain})
	got := strings.Count(pattern(10_000, exists(t.Context(), bkt, "a/index")), "x")
	require.InDelta(t, 5000, got, 200)
	require.EqualValues(t, got, bkt.Injected()[Exists])
	require.EqualValues(t, 10_000, bkt.Requests()[Exists])
}

// operations runs each operation once, reading bodies to their ends.
func operations(ctx context.Context, bkt *Bucket) map[string]error {
	drain := func(rc io.ReadCloser, err error) error {
		if err != nil {
			return err
		}
		_, err = io.ReadAll(rc)
		return errors.Join(err, rc.Close())
	}
	_, existsErr := bkt.Exists(ctx, "a/index")
	_, attrsErr := bkt.Attributes(ctx, "a/index")
	return map[string]error{
		Iter:       bkt.Iter(ctx, "a", func(string) error { return nil }),
		Get:        drain(bkt.Get(ctx, "a/index")),
		GetRange:   drain(bkt.GetRange(ctx, "a/index", 1, 3)),
		Exists:     existsErr,
		Attributes: attrsErr,
		Upload:     bkt.Upload(ctx, "c", strings.NewReader("0123456789")),
		Delete:     bkt.Delete(ctx, "b/index"),
	}
}

func TestEachOperationCanFailAndIsCounted(t *testing.T) {
	t.Parallel()
	for _, failing := range Operations() {
		bkt := newBucket(t, Rule{Operations: []string{failing}, Error: ErrorPlain})
		for op, err := range operations(t.Context(), bkt) {
			if op == failing {
				require.ErrorIs(t, err, ErrInjected)
			} else {
				require.NoError(t, err, op)
			}
			require.EqualValues(t, 1, bkt.Requests()[op])
		}
		require.EqualValues(t, 7, bkt.Requests().Total())
		require.EqualValues(t, 5, bkt.Requests().Of(Reads()...))
		require.Equal(t, failing+"=1", bkt.Injected().String())
		bkt.Reset()
		require.Zero(t, bkt.Requests().Total()+bkt.Injected().Total())
	}
}

func TestRulesWithoutOperationsSpareWrites(t *testing.T) {
	t.Parallel()
	for op, err := range operations(t.Context(), newBucket(t, Rule{Error: ErrorPlain})) {
		require.Equal(t, op == Upload || op == Delete, err == nil, op)
	}
}

func TestKindsOfError(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string][2]bool{ErrorPlain: {}, ErrorNotFound: {true, false}, ErrorAccessDenied: {false, true}} {
		bkt := newBucket(t, Rule{Error: kind})
		_, err := bkt.Get(t.Context(), "a/index")
		require.ErrorContains(t, err, `get "a/index": injected fault of rule 1`)
		wrapped := fmt.Errorf("read: %w", err)
		require.Equal(t, want, [2]bool{bkt.IsObjNotFoundErr(wrapped), bkt.IsAccessDeniedErr(wrapped)}, kind)
	}
	bkt := newBucket(t)
	_, err := bkt.Get(t.Context(), "nowhere")
	require.True(t, bkt.IsObjNotFoundErr(err), "real errors keep their kind")
}

func TestBodies(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule    Rule
		want    string
		broken  bool
		oneByte bool
	}{
		"untouched":              {Rule{Latency: 1}, "0123456789", false, false},
		"broken at once":         {Rule{BreakAfter: ptr(0)}, "", true, false},
		"broken":                 {Rule{BreakAfter: ptr(4)}, "0123", true, false},
		"truncated":              {Rule{Truncate: ptr(4)}, "0123", false, false},
		"truncated before break": {Rule{Truncate: ptr(4), BreakAfter: ptr(6)}, "0123", false, false},
		"longer than the object": {Rule{Truncate: ptr(40)}, "0123456789", false, false},
		"short reads":            {Rule{ShortReads: 1}, "0123456789", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bkt := newBucket(t, tc.rule)
			for _, open := range []func() (io.ReadCloser, error){
				func() (io.ReadCloser, error) { return bkt.Get(t.Context(), "a/index") },
				func() (io.ReadCloser, error) { return bkt.GetRange(t.Context(), "a/index", 0, 10) },
			} {
				rc, err := open()
				require.NoError(t, err)
				size, err := objstore.TryToGetSize(rc)
				require.NoError(t, err)
				require.EqualValues(t, 10, size, "the server announced the whole body")
				first, err := rc.Read(make([]byte, 10))
				if tc.oneByte {
					require.NoError(t, err)
					require.Equal(t, 1, first)
				}
				rest, err := io.ReadAll(rc)
				require.Len(t, rest, len(tc.want)-first)
				if tc.broken {
					require.ErrorIs(t, err, ErrInjected)
				} else {
					require.NoError(t, err)
				}
				require.NoError(t, rc.Close())
			}
		})
	}
}

func TestBodiesAreGoodReaders(t *testing.T) {
	t.Parallel()
	for _, rule := range []Rule{{ShortReads: 3}, {Truncate: ptr(10)}} {
		rc, err := newBucket(t, rule).Get(t.Context(), "a/index")
		require.NoError(t, err)
		require.NoError(t, iotest.TestReader(rc, []byte("0123456789")))
	}
}

func TestBrokenUploadFails(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t, Rule{Operations: []string{Upload}, BreakAfter: ptr(3), Truncate: ptr(1)})
	require.ErrorIs(t, bkt.Upload(t.Context(), "c", strings.NewReader("0123456789")), ErrInjected)
	ok, err := bkt.Exists(t.Context(), "c")
	require.NoError(t, err)
	require.False(t, ok)
}

func TestLatencyAndHanging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bkt := newBucket(t, Rule{Latency: time.Second}, Rule{Latency: 2 * time.Second}, Rule{Operations: []string{Get}, Hang: true})
		start := time.Now()
		require.NoError(t, exists(t.Context(), bkt, "a/index")())
		require.Equal(t, 3*time.Second, time.Since(start), "latencies add up")

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start = time.Now()
		_, err := bkt.Get(ctx, "a/index")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(start))

		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, exists(ctx, bkt, "a/index")(), context.DeadlineExceeded)
	})
}

func TestFileSwitchesRulesWhileTheProcessRuns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "on")
	bkt := newBucket(t, Rule{Error: ErrorPlain, WhileFile: file, After: 1})
	require.Equal(t, "...", pattern(3, exists(t.Context(), bkt, "a/index")))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Equal(t, ".xx", pattern(3, exists(t.Context(), bkt, "a/index")), "a resting rule counts nothing")
	require.NoError(t, os.Remove(file))
	require.Equal(t, "...", pattern(3, exists(t.Context(), bkt, "a/index")))
}

func TestRulesCanBeReplaced(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t, Rule{Error: ErrorPlain})
	require.Error(t, exists(t.Context(), bkt, "a/index")())
	require.Error(t, bkt.SetConfig(Config{Rules: []Rule{{}}}))
	require.Error(t, exists(t.Context(), bkt, "a/index")(), "a wrong configuration changes nothing")
	require.NoError(t, bkt.SetConfig(Config{}))
	require.NoError(t, exists(t.Context(), bkt, "a/index")())
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for want, rule := range map[string]Rule{
		"rule 1: does nothing":                    {Share: 1},
		`rule 1: unknown operation "read" (known`: {Operations: []string{"read"}, Hang: true},
		"rule 1: name: error parsing regexp":      {Name: "(", Hang: true},
		"rule 1: share 2 is not between 0 and 1":  {Share: 2, Hang: true},
		`rule 1: unknown error "teapot" (known`:   {Error: "teapot"},
		"rule 1: a count, size or latency is":     {Latency: -1},
	} {
		_, err := Wrap(objstore.NewInMemBucket(), Config{Rules: []Rule{rule}})
		require.ErrorContains(t, err, want)
	}
}
