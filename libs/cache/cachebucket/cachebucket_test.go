package cachebucket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
)

const chunks = "01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001"

// counting counts requests and can be slow or broken.
type counting struct {
	objstore.Bucket
	mu    sync.Mutex // guards count
	count map[string]int
	gate  chan struct{}
	fail  error
}

func (c *counting) seen(op string) error {
	c.mu.Lock()
	c.count[op]++
	gate, fail := c.gate, c.fail
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return fail
}

func (c *counting) requests(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[op]
}

func (c *counting) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := c.seen("get"); err != nil {
		return nil, err
	}
	return c.Bucket.Get(ctx, name)
}

func (c *counting) GetRange(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := c.seen("range"); err != nil {
		return nil, err
	}
	return c.Bucket.GetRange(ctx, name, off, n)
}

func (c *counting) Exists(ctx context.Context, name string) (bool, error) {
	if err := c.seen("exists"); err != nil {
		return false, err
	}
	return c.Bucket.Exists(ctx, name)
}

func (c *counting) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	if err := c.seen("attrs"); err != nil {
		return objstore.ObjectAttributes{}, err
	}
	return c.Bucket.Attributes(ctx, name)
}

func (c *counting) Iter(ctx context.Context, dir string, f func(string) error, o ...objstore.IterOption) error {
	if err := c.seen("iter"); err != nil {
		return err
	}
	return c.Bucket.Iter(ctx, dir, f, o...)
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func setup(t testing.TB, c cache.Cache, objects map[string][]byte) (*Bucket, *counting) {
	t.Helper()
	mem := &counting{Bucket: objstore.NewInMemBucket(), count: map[string]int{}}
	for name, b := range objects {
		require.NoError(t, mem.Upload(t.Context(), name, bytes.NewReader(b)))
	}
	return New(objstore.WithNoopInstr(mem), c, DefaultSettings(), "42", zap.NewNop(), prometheus.NewRegistry()), mem
}

func readRange(ctx context.Context, b objstore.BucketReader, off, n int64) ([]byte, error) {
	r, err := b.GetRange(ctx, chunks, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// checkRanges reads at random and compares with the object.
func checkRanges(t *testing.T, b *Bucket, object []byte, rounds int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		off := rng.Int64N(int64(len(object)))
		n := 1 + rng.Int64N(300_000)
		got, err := readRange(t.Context(), b, off, n)
		require.NoError(t, err)
		require.True(t, bytes.Equal(object[off:min(off+n, int64(len(object)))], got), "%d bytes at %d", n, off)
	}
}

func TestRangesAreThoseOfTheObject(t *testing.T) {
	t.Parallel()
	object := content(9_123_457)
	b, mem := setup(t, cache.NewMemory(64<<20, 0), map[string][]byte{chunks: object})
	checkRanges(t, b, object, 100)
	all, err := readRange(t.Context(), b, 0, 1<<40)
	require.NoError(t, err)
	require.True(t, bytes.Equal(object, all))
	before := mem.requests("range")
	checkRanges(t, b, object, 100)
	require.Equal(t, before, mem.requests("range"), "all of it is in the cache")
	require.Equal(t, 1, mem.requests("attrs"))
	_, err = readRange(t.Context(), b, int64(len(object)), 10)
	_, bare := readRange(t.Context(), b.Bucket, int64(len(object)), 10)
	require.Equal(t, bare == nil, err == nil, "beyond the end the bucket speaks")
}

func TestKeysAndValuesAreThoseOfThanos(t *testing.T) {
	t.Parallel()
	object := content(40_000)
	meta, mark := "01ARZ3NDEKTSV4RRFFQ69G5FAV/meta.json", "01ARZ3NDEKTSV4RRFFQ69G5FAV/deletion-mark.json"
	c := cache.NewMemory(1<<20, 0)
	b, _ := setup(t, c, map[string][]byte{chunks: object, meta: []byte(`{"version":1}`)})
	_, err := readRange(t.Context(), b, 15_000, 100_000)
	require.NoError(t, err)
	_, err = b.Get(t.Context(), meta)
	require.NoError(t, err)
	_, err = b.Exists(t.Context(), mark)
	require.NoError(t, err)
	require.NoError(t, b.Iter(t.Context(), "", func(string) error { return nil }))
	require.NoError(t, b.Iter(t.Context(), "", func(string) error { return nil }, objstore.WithRecursiveIter()))
	for key, want := range map[string]string{
		"subrange:" + chunks + ":0:16000":     string(object[:16000]),
		"subrange:" + chunks + ":16000:32000": string(object[16000:32000]),
		"subrange:" + chunks + ":32000:40000": string(object[32000:]),
		"content:" + meta:                     `{"version":1}`,
		"exists:" + meta:                      "true",
		"exists:" + mark:                      "false",
		"iter::42":                            `["01ARZ3NDEKTSV4RRFFQ69G5FAV/"]`,
		"iter-recursive::42":                  `["` + chunks + `","` + meta + `"]`,
	} {
		require.Equal(t, want, string(c.Get(t.Context(), []string{key})[0]), key)
	}
	require.Contains(t, string(c.Get(t.Context(), []string{"attrs:" + chunks})[0]), `{"size":40000,"last_modified":"`)
}

func TestWrongValuesInTheCacheAreMisses(t *testing.T) {
	t.Parallel()
	object := content(100_000)
	meta := "b/meta.json"
	for name, poison := range map[string]func(c cache.Cache){
		"pieces of a wrong length": func(c cache.Cache) {
			c.Set("subrange:"+chunks+":0:16000", []byte("short"), 0)
			c.Set("subrange:"+chunks+":96000:100000", make([]byte, 16_000), 0)
		},
		"size too small": func(c cache.Cache) {
			c.Set("attrs:"+chunks, []byte(`{"size":50,"last_modified":"2026-01-01T00:00:00Z"}`), 0)
		},
		"size too large": func(c cache.Cache) {
			c.Set("attrs:"+chunks, []byte(`{"size":5000000,"last_modified":"2026-01-01T00:00:00Z"}`), 0)
		},
		"size negative":   func(c cache.Cache) { c.Set("attrs:"+chunks, []byte(`{"size":-5}`), 0) },
		"garbage":         func(c cache.Cache) { c.Set("attrs:"+chunks, []byte(`x`), 0) },
		"other documents": func(c cache.Cache) { c.Set("attrs:"+chunks, []byte(`{}`), 0) },
		"metadata": func(c cache.Cache) {
			c.Set("content:"+meta, []byte(`{"version":`), 0)
			c.Set("exists:"+meta, []byte(`perhaps`), 0)
			c.Set("iter::42", []byte(`["a/`), 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cache.NewMemory(16<<20, 0)
			b, _ := setup(t, c, map[string][]byte{chunks: object, meta: []byte("{}")})
			poison(c)
			checkRanges(t, b, object, 30)
			r, err := b.Get(t.Context(), meta)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Equal(t, "{}", string(got))
			exists, err := b.Exists(t.Context(), meta)
			require.NoError(t, err)
			require.True(t, exists)
			var names []string
			require.NoError(t, b.Iter(t.Context(), "", func(n string) error { names = append(names, n); return nil }))
			require.Equal(t, []string{"01ARZ3NDEKTSV4RRFFQ69G5FAV/", "b/"}, names)
		})
	}
}

func TestConcurrentMissesAreReadOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		object := content(1_000_000)
		b, mem := setup(t, cache.NewMemory(16<<20, 0), map[string][]byte{chunks: object})
		_, err := b.Attributes(t.Context(), chunks)
		require.NoError(t, err)
		mem.gate = make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, err := readRange(t.Context(), b, 5, 500_000)
				if err != nil || !bytes.Equal(got, object[5:500_005]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		synctest.Wait() // one reads, and all others wait for it
		close(mem.gate)
		wg.Wait()
		require.Equal(t, 1, mem.requests("range"))
	})
}

func TestMissesAreJoinedIntoFewRequests(t *testing.T) {
	t.Parallel()
	object := content(16_000 * 20)
	c := cache.NewMemory(16<<20, 0)
	b, mem := setup(t, c, map[string][]byte{chunks: object})
	for _, i := range []int{1, 5, 6, 7, 11, 12, 17} {
		c.Set(fmt.Sprintf("subrange:%s:%d:%d", chunks, i*16_000, (i+1)*16_000), object[i*16_000:(i+1)*16_000], 0)
	}
	got, err := readRange(t.Context(), b, 0, int64(len(object)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(object, got))
	require.Equal(t, 3, mem.requests("range"))
}

func TestMetadataIsReadOnceAndAbsenceRemembered(t *testing.T) {
	t.Parallel()
	large := []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
	b, mem := setup(t, cache.NewMemory(16<<20, 0), map[string][]byte{"a/meta.json": []byte("{}"), "l/meta.json": large})
	for range 3 {
		_, err := b.Get(t.Context(), "a/meta.json")
		require.NoError(t, err)
		exists, err := b.Exists(t.Context(), "a/meta.json")
		require.NoError(t, err)
		require.True(t, exists)
		r := b.ReaderWithExpectedErrs(b.IsObjNotFoundErr)
		_, err = r.Get(t.Context(), "a/deletion-mark.json")
		require.True(t, r.IsObjNotFoundErr(err))
		require.True(t, r.IsObjNotFoundErr(fmt.Errorf("wrapped: %w", err)))
	}
	require.Equal(t, 2, mem.requests("get"))
	require.Zero(t, mem.requests("exists"))
	r, err := b.Get(t.Context(), "l/meta.json")
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, large, got)
}

func TestErrorsOfTheBucketComeOutAndAreNotKept(t *testing.T) {
	t.Parallel()
	object := content(100_000)
	b, mem := setup(t, cache.NewMemory(16<<20, 0), map[string][]byte{chunks: object, "a/meta.json": []byte("{}")})
	mem.fail = io.ErrClosedPipe
	_, err := readRange(t.Context(), b, 0, 10)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, err = b.Get(t.Context(), "a/meta.json")
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.ErrorIs(t, b.Iter(t.Context(), "", nil), io.ErrClosedPipe)
	mem.fail = nil
	checkRanges(t, b, object, 10)
	_, err = b.Get(t.Context(), "a/meta.json")
	require.NoError(t, err)
}

func TestTheCacheDyingCostsSpeedOnly(t *testing.T) {
	t.Parallel()
	s := cachetest.Memcached(t)
	cfg, err := ParseConfig("f", "", []byte("type: MEMCACHED\nconfig: {addresses: ['"+s.Addr+"']}"))
	require.NoError(t, err)
	c, err := backend.Open("caching-bucket", cfg.Backend, zap.NewNop(), prometheus.NewRegistry())
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	object := content(2_000_000)
	b, _ := setup(t, c, map[string][]byte{chunks: object})
	checkRanges(t, b, object, 50)
	s.Kill()
	checkRanges(t, b, object, 50)
	s.Start(t)
	checkRanges(t, b, object, 50)
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig("f", "/etc/x.yaml", []byte("type: in-memory\nconfig: {max_size: 1MiB}\nchunk_subrange_size: 32000\nmetafile_exists_ttl: 1d"))
	require.NoError(t, err)
	want := DefaultSettings()
	want.ChunkSubrangeSize, want.MetafileExistsTTL = 32_000, cache.Duration(24*time.Hour)
	require.Equal(t, want, cfg.Settings)
	require.Equal(t, cache.MiB, cfg.Backend.Memory.MaxSize)
	for text, want := range map[string]string{
		"type: GROUPCACHE\nconfig: {self_ur: x}":        `f:2: unknown key "self_ur"`,
		"type: IN-MEMORY\nchunk_subrange_siz: 1":        `f:2: unknown key "chunk_subrange_siz"`,
		"type: IN-MEMORY\nchunk_subrange_size: 0":       "f: chunk_subrange_size 0 is not from 1 to 1048576",
		"type: IN-MEMORY\nblocks_iter_ttl: [1]":         "f:2: a duration is one value",
		"type: IN-MEMORY\nchunk_subrange_size: 16KB":    `f:2: "16KB" is not a whole number`,
		"type: IN-MEMORY\nmetafile_max_size: 0":         "f: metafile_max_size must be more than 0",
		"type: IN-MEMORY\nblocks_iter_ttl: 1s\ntype: x": "",
	} {
		_, err := ParseConfig("f", "", []byte(text))
		require.Error(t, err)
		if want != "" {
			require.EqualError(t, err, want)
		}
	}
}

func TestAGroupcacheIsACacheOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig("f", "", []byte(`type: GROUPCACHE
config: {self_url: "http://a:10902", peers: ["dns+b:10902"], groupcache_group: x, dns_interval: 30s, dns_sd_resolver: miekgdns, timeout: 1s, max_size: 10MiB}
chunk_subrange_size: 32000`))
	require.NoError(t, err)
	require.True(t, cfg.Alone)
	require.Equal(t, backend.TypeInMemory, cfg.Backend.Type)
	require.Equal(t, 10*cache.MiB, cfg.Backend.Memory.MaxSize)
	require.EqualValues(t, 32000, cfg.Settings.ChunkSubrangeSize)
	cfg, err = ParseConfig("f", "", []byte("type: groupcache"))
	require.NoError(t, err)
	require.Equal(t, 250*cache.MiB, cfg.Backend.Memory.MaxSize)
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("type: IN-MEMORY\nchunk_subrange_size: 16000"))
	f.Add([]byte("type: MEMCACHED\nconfig: {addresses: [a:1]}\nblocks_iter_ttl: 5m"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := ParseConfig("f", "", text)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "f:"), err)
			return
		}
		require.NoError(t, cfg.Settings.Validate())
	})
}
