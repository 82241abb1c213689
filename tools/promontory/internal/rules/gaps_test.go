package rules

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
)

// fakeRuler lists gaps and takes those that are filled.
type fakeRuler struct {
	*httptest.Server

	mu     sync.Mutex
	gaps   []gap // guarded by mu
	filled []gap // guarded by mu
}

func newFakeRuler(t *testing.T, external map[string]string) *fakeRuler {
	t.Helper()
	f := &fakeRuler{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		data := map[string]any{"externalLabels": external, "gaps": f.gaps}
		if r.Method == http.MethodPost {
			var body struct{ Gaps []gap }
			require.NoError(t, json.NewDecoder(r.Body).Decode(&body))
			f.filled = append(f.filled, body.Gaps...)
			data = map[string]any{"forgotten": len(body.Gaps)}
		}
		require.NoError(t, json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}))
	}))
	t.Cleanup(f.Close)
	return f
}

func gapOf(name, query string, from, to time.Duration) gap {
	return gap{
		rule:  rule{File: "f", Group: "g", Name: name, Type: recording, Query: query, Labels: labels.EmptyLabels(), Interval: 30},
		Start: zero.Add(from), End: zero.Add(to),
	}
}

// labelsIn returns how many blocks of a bucket have which external labels.
func labelsIn(t *testing.T, bucket string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, id := range blocksIn(t, bucket) {
		meta, err := block.ReadMetaDir(filepath.Join(bucket, id))
		require.NoError(t, err)
		require.Equal(t, block.SourceRuler, meta.Thanos.Source)
		out[fmt.Sprint(meta.Thanos.Labels)]++
	}
	return out
}

func TestGapsOfARulerAreFilledUploadedAndForgotten(t *testing.T) {
	t.Parallel()
	db := input(t)
	q := querier(t, db, nil)
	r := newFakeRuler(t, map[string]string{"cluster": "eu1", "rule_replica": "r0"})
	alert := gapOf("A", "up == 0", 30*time.Minute, 40*time.Minute)
	alert.Type = "alerting"
	r.gaps = []gap{
		gapOf("rate", "sum(rate(x_total[5m]))", 30*time.Minute, 40*time.Minute), alert,
		gapOf("rate", "sum(rate(x_total[5m]))", 110*time.Minute, 130*time.Minute),
	}
	bucket := t.TempDir()
	args := func(out string) []string {
		return []string{
			"--ruler=" + r.URL, "--query=" + q.URL, "--output=" + out,
			"--objstore.config={type: FILESYSTEM, config: {directory: " + bucket + "}}",
		}
	}
	_, notes, err := runBackfill(t, args(t.TempDir())...)
	require.NoError(t, err)
	require.Contains(t, notes, "2 blocks uploaded")
	require.Contains(t, notes, "the ruler has forgotten 2 gaps")
	require.Equal(t, map[string]int{"map[cluster:eu1 rule_replica:backfill]": 2}, labelsIn(t, bucket))
	got := inBlocks(t, bucket)[`{__name__="rate"}`]
	require.Len(t, got, 21+41, "both ends are part of a gap; behind them nothing has ended")
	require.Equal(t, "0.39999999999999997", got[zero.Add(35*time.Minute).UnixMilli()])

	// Another gap at the same time is a block of its own, which overlaps none that has the same labels.
	r.mu.Lock()
	r.gaps = []gap{gapOf("other", "sum(x_total)", 35*time.Minute, 36*time.Minute)}
	r.mu.Unlock()
	_, notes, err = runBackfill(t, args(t.TempDir())...)
	require.NoError(t, err)
	require.Contains(t, notes, `1 blocks uploaded as {cluster="eu1", rule_replica="backfill-1"}`)
	_, _, err = runBackfill(t, append(args(t.TempDir()), `--label=cluster="eu1"`, `--label=rule_replica="backfill"`)...)
	require.ErrorContains(t, err, "--label: block ")

	r.mu.Lock()
	defer r.mu.Unlock()
	require.Len(t, r.filled, 3)
	require.Equal(t, "other", r.filled[2].Name)
}

func TestOnlyThePartOfAGapThatIsAskedForIsFilled(t *testing.T) {
	t.Parallel()
	g := gapOf("r", "up", 0, 10*time.Minute)
	fills, taken, err := fromGaps([]gap{g}, pick{}, zero.Add(100*time.Second), zero.Add(200*time.Second))
	require.NoError(t, err)
	require.Empty(t, taken, "the gap is still there")
	require.Equal(t, []span{{zero.Add(2 * time.Minute).UnixMilli(), zero.Add(200 * time.Second).UnixMilli()}}, fills[0].spans)
	fills, taken, err = fromGaps([]gap{g, g}, pick{groups: []string{"g"}}, time.Unix(0, 0), zero.Add(time.Hour))
	require.NoError(t, err)
	require.Len(t, taken, 2)
	require.Len(t, fills[0].spans, 1)
	fills, _, err = fromGaps([]gap{g}, pick{names: []string{"x"}}, time.Unix(0, 0), zero.Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, fills)
	g.Interval = 0
	_, _, err = fromGaps([]gap{g}, pick{}, time.Unix(0, 0), zero.Add(time.Hour))
	require.ErrorContains(t, err, "makes no sense")
}

func TestAJournalThatIsNoneIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, journalName), []byte("{"), 0o600))
	_, err := openOutput(dir)
	require.ErrorContains(t, err, filepath.Join(dir, journalName))
}

func TestABlockThatWasMadeBeforeACrashIsMovedAfterIt(t *testing.T) {
	t.Parallel()
	const id = "01J00000000000000000000000"
	dir := t.TempDir()
	staged := filepath.Join(dir, stagingName, id)
	require.NoError(t, os.MkdirAll(staged, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, stagingName, "01J00000000000000000000001"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, journalName), []byte(`{"version":1,"windows":{"x":{"minTime":1,"block":"`+id+`"}}}`), 0o600))
	o, err := openOutput(dir)
	require.NoError(t, err)
	require.True(t, o.isDone("x"))
	require.DirExists(t, filepath.Join(dir, id))
	require.NoDirExists(t, filepath.Join(dir, stagingName))
}
