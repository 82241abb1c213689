package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

const (
	// killsEnv is how often the compactor is killed, defaultKills where it is not set.
	killsEnv     = "PROMONTORY_E2E_KILLS"
	defaultKills = 25

	// historyStart is where ranges of 2h, 8h and 2d begin.
	historyStart = int64(1762387200000)
	historyHours = 50
	// watched is for how many clusters, the newest ones, answers are compared all the time.
	watched = 3
)

// uploadPair uploads what two servers in step have seen of a cluster, with and without each other.
func uploadPair(t *testing.T, bucket *filesystem.Bucket, cluster string) {
	t.Helper()
	hour := time.Hour.Milliseconds()
	for n := range int64(historyHours / 2) {
		for replica := range int64(2) {
			from, to := historyStart+2*n*hour, historyStart+2*(n+1)*hour
			switch (n + 2*replica) % 7 {
			case 1:
				continue // it was down
			case 4:
				from += 24 * time.Minute.Milliseconds()
			}
			blocktest.Upload(t, bucket, blocktest.Spec{
				ID:             blocktest.ID(time.UnixMilli(to), uint64(len(cluster))<<16|uint64(n)<<1|uint64(replica)),
				ExternalLabels: labels.FromStrings("cluster", cluster, "replica", strconv.FormatInt(replica, 10)),
				MinTime:        from, MaxTime: to, Interval: 2 * time.Minute, Histograms: 1,
				Series: []labels.Labels{labels.FromStrings("__name__", "requests_total", "code", "200"), labels.FromStrings("__name__", "requests_total", "code", "500")},
			})
		}
	}
}

// copyBlocks copies blocks whole into a bucket's folder: each is put together beside it.
func copyBlocks(t *testing.T, from, to string) {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(from, "0*"))
	require.NoError(t, err)
	for _, folder := range folders {
		beside := to + "-" + filepath.Base(folder)
		require.NoError(t, os.CopyFS(beside, os.DirFS(folder)))
		require.NoError(t, os.Rename(beside, filepath.Join(to, filepath.Base(folder))))
	}
}

// clusterQueries are asked of each cluster again and again.
func clusterQueries(cluster string) []string {
	var out []string
	for _, q := range []string{
		`requests_total{%s}`, `sum(rate(requests_total{%s}[10m]))`, `increase(requests_total{%s}[1h])`, `resets(requests_total{%s}[2h])`,
		`sum_over_time(requests_total{%s}[30m])`, `count_over_time(test_histogram{%s}[30m])`, `max_over_time(requests_total{%s}[30m])`,
		`histogram_quantile(0.9, rate(test_histogram{%s}[10m]))`, `histogram_sum(test_histogram{%s})`,
	} {
		out = append(out, fmt.Sprintf(q, `cluster="`+cluster+`"`))
	}
	return out
}

// watcher compares answers with those of before.
type watcher struct {
	api harness.API

	mu       sync.Mutex // guards what follows
	want     map[string]map[string]map[int64]float64
	newest   []string // the queries for the clusters that are being worked on
	compared int
	wrong    []string
}

func (w *watcher) ask(query string) (map[string]map[int64]float64, error) {
	start := time.UnixMilli(historyStart)
	got, _, err := w.api.TryRange(query, start, start.Add(historyHours*time.Hour), 11*time.Minute)
	return got, err
}

// learn remembers the answers for a cluster, once all of its blocks are served.
func (w *watcher) learn(t *testing.T, cluster string) {
	t.Helper()
	answers := map[string]map[string]map[int64]float64{}
	for i, query := range clusterQueries(cluster) {
		harness.Eventually(t, func() error {
			got, err := w.ask(query)
			if err != nil {
				return err
			}
			answers[query] = got
			if i > 0 {
				return nil
			}
			// Between the two of them the servers have seen everything.
			for _, series := range got {
				if want := historyHours*60/11 + 1; len(series) != want {
					return fmt.Errorf("%s has %d values, want %d", query, len(series), want)
				}
			}
			if len(got) != 2 {
				return fmt.Errorf("%s: %d series", query, len(got))
			}
			return nil
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.want, answers)
	w.newest = append(w.newest, clusterQueries(cluster)...)
	w.newest = w.newest[max(0, len(w.newest)-watched*len(answers)):]
}

// check asks everything once more.
func (w *watcher) check(t *testing.T) {
	t.Helper()
	for query, want := range w.want {
		got, err := w.ask(query)
		require.NoError(t, err, query)
		require.Empty(t, cmp.Diff(want, got), query)
		w.compared++
	}
}

// watch asks until ctx is over.
func (w *watcher) watch(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		queries := slices.Clone(w.newest)
		w.mu.Unlock()
		for _, query := range queries {
			if ctx.Err() != nil {
				return
			}
			got, err := w.ask(query)
			w.mu.Lock()
			w.compared++
			if err != nil {
				w.wrong = append(w.wrong, fmt.Sprintf("%s: %v", query, err))
			} else if diff := cmp.Diff(w.want[query], got); diff != "" {
				w.wrong = append(w.wrong, fmt.Sprintf("%s:\n%.1500s", query, diff))
			}
			w.mu.Unlock()
		}
	}
}

// when is the moment of a kill.
type when struct {
	// appears is a bucket's folder: the time runs from when another block is whole in it;
	// empty for the start of the process.
	appears string
	after   time.Duration
	never   bool
}

// moment returns a channel that is closed at the moment, unless ctx ends before.
func (w when) moment(ctx context.Context, t *testing.T) <-chan struct{} {
	t.Helper()
	out := make(chan struct{})
	if w.never {
		return out
	}
	known := map[string]bool{}
	blocks := func() []string {
		metas, _ := filepath.Glob(filepath.Join(w.appears, "0*", block.MetaFilename)) // the pattern is right
		return metas
	}
	for _, path := range blocks() {
		known[path] = true
	}
	go func() {
		ticker := time.NewTicker(3 * time.Millisecond)
		defer ticker.Stop()
		isNew := func(path string) bool { return !known[path] }
		for w.appears != "" && !slices.ContainsFunc(blocks(), isNew) {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		timer := time.NewTimer(w.after)
		defer timer.Stop()
		select {
		case <-timer.C:
			close(out)
		case <-ctx.Done():
		}
	}()
	return out
}

// killed runs a compactor on the bucket until it ends or is killed, and reports whether it was.
func killed(t *testing.T, config, data string, at when) bool {
	t.Helper()
	cmd := exec.Command(harness.Binary(t, "compactor"), "compact", "--objstore.config-file="+config, "--data-dir="+data, //nolint:noctx // it is killed
		"--deduplication.func=exact", "--deduplication.replica-label=replica", "--consistency-delay=0s", "--delete-delay=15s",
		"--http-address=127.0.0.1:0", "--lease.term=1s")
	log, err := os.OpenFile(data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	now := at.moment(ctx, t)
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		// The lease of a killed one has to run out first.
		if err != nil && !errors.As(err, &exit) {
			require.NoError(t, err)
		}
		return false
	case <-now:
		err := cmd.Process.Kill()
		<-done
		if errors.Is(err, os.ErrProcessDone) {
			return false
		}
		require.NoError(t, err)
		return true
	}
}

// interrupted reports whether there is a block without meta.json, and whether one whose
// sources are not all marked, as 0 or 1.
func interrupted(t *testing.T, dir string) (uploads, marks int) {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(dir, "0*"))
	require.NoError(t, err)
	unmarked := map[string]bool{}
	var merged []*block.Meta
	for _, folder := range folders {
		m, err := block.ReadMetaDir(folder)
		if err != nil {
			uploads = 1
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, block.DeletionMarkFilename)); err != nil {
			unmarked[m.ULID.String()] = true
		}
		if len(m.Compaction.Sources) > 1 && m.Thanos.Downsample.Resolution == 0 {
			merged = append(merged, m)
		}
	}
	for _, m := range merged {
		for _, id := range m.Compaction.Sources {
			if unmarked[id.String()] {
				marks = 1
			}
		}
	}
	return uploads, marks
}

// kept describes the blocks that are not marked, whatever their ULIDs are.
func kept(t *testing.T, dir string) []string {
	t.Helper()
	metas, err := filepath.Glob(filepath.Join(dir, "*", block.MetaFilename))
	require.NoError(t, err)
	var out []string
	for _, path := range metas {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), block.DeletionMarkFilename)); err == nil {
			continue
		}
		m, err := block.ReadMetaDir(filepath.Dir(path))
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("%v %d-%d@%d %d series %d chunks %d samples of %d blocks", m.Thanos.Labels, m.MinTime, m.MaxTime,
			m.Thanos.Downsample.Resolution, m.Stats.NumSeries, m.Stats.NumChunks, m.Stats.NumSamples, len(m.Compaction.Sources)))
	}
	slices.Sort(out)
	return out
}

// A compactor is killed at random moments, again and again, while a querier is asked.
func TestCompactorKilledAgainAndAgainChangesNoAnswer(t *testing.T) {
	t.Parallel()
	kills := defaultKills
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	s := harness.New(t)
	config, dir := s.FilesystemBucket("bucket", "")
	referenceConfig, referenceDir := s.FilesystemBucket("reference", "")

	gateway := s.StoreGateway("store-gateway", config, "--ignore-deletion-marks-delay=4s")
	querier := s.Querier("querier", []harness.Service{gateway}, "--deduplication.func=exact")
	w := &watcher{api: s.API(querier), want: map[string]map[string]map[int64]float64{}}

	ctx, stop := context.WithCancel(t.Context())
	watching := make(chan struct{})
	go func() { defer close(watching); w.watch(ctx) }()
	rng := rand.New(rand.NewPCG(uint64(kills), 1))
	count, clusters, uploads, marks := 0, 0, 0, 0
	for count < kills {
		// More work, whenever all is done.
		clusters++
		cluster := fmt.Sprintf("%0*d", clusters, clusters) // of a length of its own, as the block IDs want
		fresh, err := filesystem.New(s.Dir("fresh-" + cluster))
		require.NoError(t, err)
		uploadPair(t, fresh, cluster)
		for _, to := range []string{dir, referenceDir} {
			copyBlocks(t, fresh.Root(), to)
		}
		w.learn(t, cluster)
		// From at once to long enough for all of it, short times more often.
		pause := func() time.Duration {
			return time.Duration(20 * math.Pow(60, rng.Float64()) * float64(time.Millisecond))
		}
		for count < kills {
			at := when{after: pause()}
			if count%3 == 2 {
				// As soon as the merged block is there, while its sources are being marked.
				at = when{appears: dir, after: time.Duration(rng.IntN(100)) * time.Millisecond}
			}
			if !killed(t, config, s.Dir("data"), at) {
				break
			}
			count++
			halves, doubles := interrupted(t, dir)
			uploads += halves
			marks += doubles
			if count%50 == 0 {
				t.Logf("%d kills", count)
			}
		}
	}
	harness.Eventually(t, func() error {
		killed(t, config, s.Dir("data"), when{never: true})
		killed(t, referenceConfig, s.Dir("reference-data"), when{never: true})
		if diff := cmp.Diff(kept(t, referenceDir), kept(t, dir)); diff != "" {
			return fmt.Errorf("not what a compactor that nobody kills makes of it:\n%s", diff)
		}
		return nil
	})
	stop()
	<-watching
	t.Logf("%d kills (%d left uploads cut off, %d sources that were not marked yet), %d clusters, %d answers compared", count, uploads, marks, clusters, w.compared)
	require.Empty(t, w.wrong)
	w.check(t)
	require.Len(t, kept(t, dir), 3*clusters, "two days raw and in 5m, and the newest pair")
}
