package syncer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/store"
)

// newSyncer follows bkt with one attempt for each read.
func newSyncer(t *testing.T, bkt objstore.Bucket, dir string, partial ...fetch.Filter) (*Syncer, *store.Store) {
	t.Helper()
	base, err := fetch.NewBase(zap.NewNop(), bkt, fetch.Config{}, nil)
	require.NoError(t, err)
	reader := rangeread.New(bkt, rangeread.Config{Attempts: 1})
	opener := indexheader.NewOpener(reader, indexheader.Config{Dir: dir}, zap.NewNop(), indexheader.NewMetrics(nil))
	st := store.New(store.Config{Component: "store"}, nil, zap.NewNop(), nil)
	return New(Config{
		Interval: 15 * time.Minute, Retry: 10 * time.Second, Concurrency: 2, Dir: dir,
		Read: blockread.DefaultConfig(), Partial: partial,
	}, Deps{
		Fetcher: base.NewFetcher(nil, partial...), Bucket: reader, Opener: opener,
		Check:  func(ctx context.Context) error { return objstore.CheckReachable(ctx, bkt) },
		Blocks: blockread.Deps{Bucket: reader, Opener: opener}, Store: st, Logger: zap.NewNop(),
	}), st
}

// run runs s in the bubble of a synctest and returns what stops it.
func run(t *testing.T, s *Syncer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		s.Close()
	}
}

func TestReadinessWaitsForBlocksThatCannotBeReadYet(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	good := blocktest.Upload(t, mem, blocktest.Spec{})
	late := blocktest.Upload(t, mem, blocktest.Spec{})
	rule := faults.Rule{Name: late.ULID.String() + "/meta.json", Operations: []string{faults.Get}, Error: faults.ErrorPlain}
	for name, tc := range map[string]struct {
		times int64
		after time.Duration
		aside int
	}{
		"until they can":                {2, 20 * time.Second, 0},
		"but not for ever":              {0, 40 * time.Second, 1},
		"not at all when all are there": {-1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rule
				cfg := faults.Config{Rules: []faults.Rule{r}}
				switch {
				case tc.times > 0:
					cfg.Rules[0].Times = tc.times
				case tc.times < 0:
					cfg.Rules = nil
				}
				bkt, err := faults.Wrap(mem, cfg)
				require.NoError(t, err)
				s, st := newSyncer(t, bkt, "")
				begin := time.Now()
				defer run(t, s)()
				<-s.Ready()
				require.Equal(t, tc.after, time.Since(begin))
				require.True(t, st.Ready())
				state := s.State()
				require.Len(t, state.Aside, tc.aside)
				require.Len(t, state.Metas, 2-tc.aside)
				require.Equal(t, good.ULID, state.Metas[0].ULID)
				if tc.aside > 0 {
					require.Equal(t, late.ULID.String(), state.Aside[0].ID)
					require.False(t, state.Aside[0].Known)
				}
			})
		})
	}
}

func TestAFailedRoundKeepsWhatIsServed(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	blocktest.Upload(t, mem, blocktest.Spec{})
	synctest.Test(t, func(t *testing.T) {
		bkt, err := faults.Wrap(mem, faults.Config{})
		require.NoError(t, err)
		s, st := newSyncer(t, bkt, "")
		defer run(t, s)()
		<-s.Ready()
		refreshed := s.State().Refreshed
		require.NoError(t, bkt.SetConfig(faults.Config{Rules: []faults.Rule{{Operations: []string{faults.Iter}, Error: faults.ErrorPlain}}}))
		time.Sleep(16 * time.Minute) // the bubble's clock
		synctest.Wait()
		require.ErrorIs(t, s.State().Err, faults.ErrInjected)
		require.Equal(t, refreshed, s.State().Refreshed)
		require.Len(t, st.Blocks(), 1)
		require.NoError(t, bkt.SetConfig(faults.Config{}))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.NoError(t, s.State().Err, "a failed round is repeated soon")
		require.True(t, s.State().Refreshed.After(refreshed))
	})
}

func TestBlocksWithUnusableMetadataAreSetAsideWhereTheyConcernTheStore(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	put := func(name string, content string) {
		require.NoError(t, mem.Upload(t.Context(), name, bytes.NewReader([]byte(content))))
	}
	now := time.Unix(1_763_600_000, 0)
	future := func(n uint64, cluster string) string {
		id := blocktest.ID(now, n).String()
		put(id+"/meta.json", `{"ulid":"`+id+`","minTime":100,"maxTime":200,"version":9,"thanos":{"labels":{"cluster":"`+cluster+`"},"downsample":{"resolution":300000}}}`)
		return id
	}
	mine := future(1, "eu1")
	future(2, "us1")
	marked := future(3, "eu1")
	put(marked+"/deletion-mark.json", `{"id":"`+marked+`","version":1,"deletion_time":1}`)
	garbage := blocktest.ID(now, 4).String()
	put(garbage+"/meta.json", `{"ulid`)
	put(blocktest.ID(now, 5).String()+"/index", "an upload under way")

	keep := fetch.RelabelShard([]*relabel.Config{{
		SourceLabels: model.LabelNames{"cluster"}, Regex: relabel.MustNewRegexp("eu1"), Action: relabel.Keep,
		NameValidationScheme: model.UTF8Validation,
	}})
	s, st := newSyncer(t, mem, "", keep)
	passing, err := s.sync(t.Context())
	require.NoError(t, err)
	require.False(t, passing, "nothing of this passes by itself")
	require.Empty(t, st.Blocks())
	aside := s.State().Aside
	require.Len(t, aside, 2)
	require.Equal(t, mine, aside[0].ID)
	require.True(t, aside[0].Known)
	require.True(t, labels.Equal(labels.FromStrings("cluster", "eu1"), aside[0].External))
	require.EqualValues(t, 100, aside[0].MinTime)
	require.EqualValues(t, 200, aside[0].MaxTime)
	require.Equal(t, block.Resolution5m, aside[0].Resolution)
	require.ErrorIs(t, aside[0].Reason, block.ErrMetaCorrupt)
	require.Equal(t, garbage, aside[1].ID)
	require.False(t, aside[1].Known)
}

func TestMetadataThatArrivedCutOffIsReadAgainSoon(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	blocktest.Upload(t, mem, blocktest.Spec{})
	few := int64(20)
	synctest.Test(t, func(t *testing.T) {
		bkt, err := faults.Wrap(mem, faults.Config{Rules: []faults.Rule{{Operations: []string{faults.Get}, Name: "/meta.json", Times: 1, Truncate: &few}}})
		require.NoError(t, err)
		s, st := newSyncer(t, bkt, "")
		begin := time.Now()
		defer run(t, s)()
		<-s.Ready()
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Len(t, st.Blocks(), 1)
		require.Empty(t, s.State().Aside)
	})
}

func TestLocalFilesOfBlocksThatAreGoneAreDeleted(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	meta := blocktest.Upload(t, mem, blocktest.Spec{})
	dir := t.TempDir()
	s, st := newSyncer(t, mem, dir)
	_, err := s.sync(t.Context())
	require.NoError(t, err)
	require.Len(t, st.Blocks(), 1)
	require.FileExists(t, filepath.Join(dir, meta.ULID.String(), indexheader.Filename))

	require.NoError(t, block.Delete(t.Context(), zap.NewNop(), mem, meta.ULID))
	_, err = s.sync(t.Context())
	require.NoError(t, err)
	require.Empty(t, st.Blocks())
	_, err = os.Stat(filepath.Join(dir, meta.ULID.String()))
	require.ErrorIs(t, err, os.ErrNotExist)
	s.Close()
}

func TestBlocksAreServedBeforeAllTheirHeadersAreMade(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	slow := blocktest.Upload(t, mem, blocktest.Spec{})
	other := blocktest.Upload(t, mem, blocktest.Spec{})
	rule := faults.Rule{Name: slow.ULID.String() + "/index", Latency: 10 * time.Second}
	for name, tc := range map[string]struct {
		more  []faults.Rule
		early bool
	}{
		"when metadata is known": {nil, true},
		"but not when there is trouble, which the round has to name": {
			[]faults.Rule{{Name: other.ULID.String() + "/index", Error: faults.ErrorNotFound}}, false,
		},
		"and not when some metadata cannot be read": {
			[]faults.Rule{{Name: other.ULID.String() + "/meta.json", Operations: []string{faults.Get}, Error: faults.ErrorPlain, Times: 1}}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bkt, err := faults.Wrap(mem, faults.Config{Rules: append([]faults.Rule{rule}, tc.more...)})
				require.NoError(t, err)
				s, st := newSyncer(t, bkt, "")
				begin := time.Now()
				defer run(t, s)()
				<-s.Ready()
				if tc.early {
					require.Equal(t, patienceForHeaders, time.Since(begin))
					require.Len(t, st.Blocks(), 2)
					require.Len(t, s.State().Metas, 2)
				} else {
					require.GreaterOrEqual(t, time.Since(begin), 10*time.Second)
				}
			})
		})
	}
}
