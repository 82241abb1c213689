package view

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blockapi"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

type fakeFetcher struct {
	answers chan func() (*fetch.Result, error)
}

func (f *fakeFetcher) Fetch(ctx context.Context) (*fetch.Result, error) {
	select {
	case a := <-f.answers:
		return a()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func meta(n uint64, mint int64) *block.Meta {
	return &block.Meta{
		BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(n, bytes.NewReader(make([]byte, 10))), MinTime: mint, MaxTime: mint + 10, Version: 1},
		Thanos:    block.Thanos{Labels: map[string]string{"a": "b"}, Source: block.SourceSidecar, Files: []block.File{{RelPath: "index", SizeBytes: 5}, {RelPath: "chunks/000001", SizeBytes: 7}}},
	}
}

func result(metas ...*block.Meta) *fetch.Result {
	r := &fetch.Result{Metas: map[ulid.ULID]*block.Meta{}}
	for _, m := range metas {
		r.Metas[m.ULID] = m
	}
	return r
}

func TestAFailedLookLeavesTheLastGoodStateAndIsRetriedSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFetcher{answers: make(chan func() (*fetch.Result, error), 10)}
		bkt := objstore.NewInMemBucket()
		v := New(Config{Interval: time.Hour, Timeout: time.Minute, Retry: 10 * time.Second}, f, bkt, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()

		f.answers <- func() (*fetch.Result, error) { return result(meta(2, 50), meta(1, 0)), nil }
		synctest.Wait()
		s := v.State()
		require.Len(t, s.Blocks, 2)
		require.Equal(t, int64(0), s.Blocks[0].MinTime, "sorted by time")
		require.NoError(t, s.Err)
		first := s.Refreshed

		f.answers <- func() (*fetch.Result, error) { return nil, errors.New("bucket is away") }
		time.Sleep(time.Hour)
		synctest.Wait()
		s = v.State()
		require.Len(t, s.Blocks, 2)
		require.ErrorContains(t, s.Err, "bucket is away")
		require.Equal(t, first, s.Refreshed)
		require.True(t, s.Tried.After(first))

		f.answers <- func() (*fetch.Result, error) { return result(meta(1, 0)), nil }
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s = v.State()
		require.Len(t, s.Blocks, 1)
		require.NoError(t, s.Err)

		f.answers <- func() (*fetch.Result, error) { return result(), nil }
		v.Wake()
		synctest.Wait()
		require.Empty(t, v.State().Blocks, "asked for, it looks at once")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestALookThatHangsEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFetcher{answers: make(chan func() (*fetch.Result, error))}
		v := New(Config{Interval: time.Hour, Timeout: time.Minute}, f, objstore.NewInMemBucket(), zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.ErrorIs(t, v.State().Err, context.DeadlineExceeded)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestMarksOfOneBlockAreReadAgain(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	v := New(Config{}, nil, bkt, zap.NewNop())
	m := meta(1, 0)
	v.state.Blocks = []*block.Meta{m}
	_, err := block.MarkNoCompact(t.Context(), zap.NewNop(), bkt, m.ULID, block.ReasonManual, "why", time.Unix(5, 0))
	require.NoError(t, err)
	marks, err := v.ReadMarks(t.Context(), m.ULID)
	require.NoError(t, err)
	require.Equal(t, "why", marks.NoCompact.Details)
	require.Equal(t, marks, v.State().Marks[m.ULID])
	require.NoError(t, block.RemoveMark(t.Context(), zap.NewNop(), bkt, m.ULID, block.NoCompactMarkFilename))
	_, err = v.ReadMarks(t.Context(), m.ULID)
	require.NoError(t, err)
	require.Empty(t, v.State().Marks)
	before := v.State().Version
	_, err = v.ReadMarks(t.Context(), m.ULID)
	require.NoError(t, err)
	require.Equal(t, before, v.State().Version, "what has not changed is no new version")
	require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(m.ULID, block.DeletionMarkFilename), bytes.NewReader([]byte("{"))))
	marks, err = v.ReadMarks(t.Context(), m.ULID)
	require.NoError(t, err)
	require.Nil(t, marks.Deletion, "a marker that cannot be read is none")
}

func TestTheOverviewTellsLabelsAndSourcesOnce(t *testing.T) {
	t.Parallel()
	a, b := meta(1, 0), meta(2, 10)
	b.Compaction.Failed, b.Stats.NumTombstones, b.Thanos.Source = true, 1, block.SourceCompactor
	o := OverviewOf(State{
		Blocks: []*block.Meta{a, b}, Marks: map[ulid.ULID]blockapi.Marks{b.ULID: {Deletion: &block.DeletionMark{ID: b.ULID}}},
		Unusable: map[ulid.ULID]error{meta(9, 0).ULID: block.ErrMetaNotFound}, Err: errors.New("some cannot be read"),
	})
	text, err := json.Marshal(o)
	require.NoError(t, err)
	require.Len(t, o.Columns, len(Row{}))
	require.JSONEq(t, `["`+a.ULID.String()+`",0,0,10,0,0,12,0,0,0,0,0,1]`, mustJSON(t, o.Blocks[0]))
	require.JSONEq(t, `["`+b.ULID.String()+`",0,10,20,0,0,12,0,0,0,1,25,2]`, mustJSON(t, o.Blocks[1]))
	require.Len(t, o.Groups, 1)
	require.Contains(t, string(text), `"marked":[{"ulid":"`+b.ULID.String()+`","deletion":{`)
	require.Contains(t, string(text), `"err":"some cannot be read"`)
	require.Len(t, o.Unusable, 1)
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
