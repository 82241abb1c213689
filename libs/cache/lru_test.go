package cache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLRU(maxBytes, maxItem int64) *LRU[string] {
	return NewLRU(LRUConfig[string]{MaxBytes: maxBytes, MaxItemBytes: maxItem, KeyBytes: func(k string) int { return len(k) }})
}

// held walks through all entries and checks that lists, maps, chains and sums agree.
func held[K comparable](t testing.TB, c *LRU[K]) (bytes int64, keys map[K][]byte) {
	t.Helper()
	keys = map[K][]byte{}
	var cost int64
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		listed := 0
		for e := s.ends.next; e != &s.ends; e = e.next {
			keys[e.key] = e.value
			cost += e.cost
			bytes += int64(len(e.value))
			listed++
			if s.find(e.hash, e.key) != e {
				t.Errorf("entry %v is listed but not found", e.key)
			}
		}
		mapped := 0
		for _, e := range s.entries {
			for ; e != nil; e = e.chain {
				mapped++
			}
		}
		s.mu.Unlock()
		require.Equal(t, listed, mapped)
	}
	require.LessOrEqual(t, cost, c.cfg.MaxBytes)
	return bytes, keys
}

func TestLRUForgetsWhatWasNotUsedForLongest(t *testing.T) {
	t.Parallel()
	c := newLRU(4*300, 0) // room for four or so
	c.cfg.MaxBytes = 3 * (c.overhead + 32 + 16)
	value := make([]byte, 32)
	for _, key := range []string{"a", "b", "c"} {
		require.True(t, c.Set(0, key, value, 0))
	}
	_, ok := c.Get("a")
	require.True(t, ok)
	require.True(t, c.Set(0, "d", value, 0))
	_, keys := held(t, c)
	require.Len(t, keys, 3)
	require.NotContains(t, keys, "b")
	require.Equal(t, Stats{Items: 3, ValueBytes: 96, TotalBytes: 3 * (c.overhead + 48), Added: 4, Evicted: 1}, c.Stats(0))
}

func TestLRUReplacesValues(t *testing.T) {
	t.Parallel()
	c := newLRU(1<<20, 0)
	require.True(t, c.Set(1, "k", []byte("one"), 0))
	require.True(t, c.Set(1, "k", []byte("one"), 0))
	require.EqualValues(t, 1, c.Stats(1).Added, "the same value is no news")
	require.True(t, c.Set(2, "k", []byte("two!"), 0))
	got, ok := c.Get("k")
	require.True(t, ok)
	require.Equal(t, "two!", string(got))
	require.EqualValues(t, 0, c.Stats(1).Items)
	require.EqualValues(t, 0, c.Stats(1).TotalBytes)
	require.EqualValues(t, 4, c.Stats(2).ValueBytes)
	c.Delete("k")
	c.Delete("k")
	_, ok = c.Get("k")
	require.False(t, ok)
	require.Zero(t, c.UsedBytes())
}

func TestLRUTellsEmptyFromMissing(t *testing.T) {
	t.Parallel()
	c := newLRU(1<<20, 0)
	require.True(t, c.Set(0, "k", nil, 0))
	got, ok := c.Get("k")
	require.True(t, ok)
	require.NotNil(t, got)
	require.Empty(t, got)
}

func TestLRUCopiesValues(t *testing.T) {
	t.Parallel()
	c := newLRU(1<<20, 0)
	value := []byte("value")
	c.Set(0, "k", value, 0)
	value[0] = 'X'
	got, _ := c.Get("k")
	require.Equal(t, "value", string(got))
}

func TestLRURefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	c := newLRU(1000, 100)
	require.True(t, c.Set(0, "k", make([]byte, 99), 0))
	require.False(t, c.Set(0, "k2", make([]byte, 99), 0))
	require.True(t, c.Set(0, "k", []byte("old"), 0))
	require.False(t, c.Set(0, "k", make([]byte, 100), 0))
	_, ok := c.Get("k")
	require.False(t, ok, "the former value is not true any more")
	require.EqualValues(t, 2, c.Stats(0).Overflowed)

	tiny := newLRU(50, 0)
	require.False(t, tiny.Set(0, "k", []byte("v"), 0), "no room for even the overhead")
	require.EqualValues(t, 1, tiny.Stats(0).Overflowed)
	require.Zero(t, tiny.UsedBytes())
}

func TestLRUForgetsWhatIsOutOfDate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newLRU(1<<20, 0)
		c.Set(0, "short", []byte("v"), time.Minute)
		c.Set(0, "long", []byte("v"), 0)
		time.Sleep(time.Minute - 1) // fake time
		_, ok := c.Get("short")
		require.True(t, ok)
		c.Set(0, "short", []byte("v"), time.Minute)
		time.Sleep(time.Minute - 1)
		_, ok = c.Get("short")
		require.True(t, ok, "stored again, it lives longer")
		time.Sleep(time.Nanosecond)
		_, ok = c.Get("short")
		require.False(t, ok)
		_, ok = c.Get("long")
		require.True(t, ok)
		require.EqualValues(t, 1, c.Stats(0).Evicted)
		require.EqualValues(t, 1, c.Stats(0).Expired)
	})
}

func TestLRUHoldsNoMoreEntriesThanItMay(t *testing.T) {
	t.Parallel()
	c := NewLRU(LRUConfig[string]{MaxBytes: 1 << 30, MaxItems: 3})
	for _, key := range []string{"a", "b", "c"} {
		require.True(t, c.Set(0, key, []byte(key), 0))
	}
	require.True(t, c.Set(0, "a", []byte("other"), 0), "in its own place")
	require.EqualValues(t, 1, c.Stats(0).Replaced)
	require.True(t, c.Set(0, "d", nil, 0))
	_, keys := held(t, c)
	require.Len(t, keys, 3)
	require.NotContains(t, keys, "b", "not used for longest")
	require.EqualValues(t, 1, c.Stats(0).Evicted)

	// Of several shards the bound is one for all, whoever comes at the same time.
	c = NewLRU(LRUConfig[string]{MaxBytes: 1 << 30, MaxItems: 1000})
	require.Len(t, c.shards, 8)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				c.Set(0, fmt.Sprint(g, i), nil, 0)
			}
		})
	}
	wg.Wait()
	_, keys = held(t, c)
	require.Len(t, keys, int(c.Stats(0).Items))
	require.LessOrEqual(t, len(keys), 1000)
	require.Greater(t, len(keys), 900)
	for key := range keys {
		c.Delete(key)
	}
	require.Zero(t, c.count.Load())
	require.Zero(t, c.UsedBytes())
}

func TestLRUChainsKeysOfOneHash(t *testing.T) {
	t.Parallel()
	c := newLRU(1<<20, 0)
	s := &c.shards[0]
	entries := map[string]*entry[string]{}
	for _, key := range []string{"a", "b", "c"} {
		entries[key] = &entry[string]{key: key, hash: 7}
		s.insert(entries[key])
	}
	for _, gone := range []string{"b", "c", "a"} { // the middle, the first, the last
		for key, e := range entries {
			require.Same(t, e, s.find(7, key))
		}
		s.remove(entries[gone])
		delete(entries, gone)
		require.Nil(t, s.find(7, gone))
	}
	require.Empty(t, s.entries)
}

// Whatever is done to it, the cache agrees with a map where it answers, and stays within its bytes.
func TestLRUAgreesWithAMapAndStaysWithinItsBytes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		c := newLRU(int64(1000+rng.IntN(200_000)), int64(rng.IntN(3000)))
		truth := map[string]string{}
		for range 5000 {
			key := fmt.Sprint("key-", rng.IntN(300))
			switch rng.IntN(10) {
			case 0:
				c.Delete(key)
				delete(truth, key)
			case 1, 2, 3:
				value := bytes.Repeat([]byte{byte(rng.IntN(256))}, rng.IntN(2500))
				if c.Set(rng.IntN(MaxClasses), key, value, 0) {
					truth[key] = string(value)
				} else {
					delete(truth, key)
				}
			default:
				if got, ok := c.Get(key); ok {
					want, known := truth[key]
					require.True(t, known)
					require.Equal(t, want, string(got))
				}
			}
			require.LessOrEqual(t, c.UsedBytes(), c.cfg.MaxBytes)
		}
		bytes, keys := held(t, c)
		var sum Stats
		for class := range MaxClasses {
			st := c.Stats(class)
			sum.Items += st.Items
			sum.ValueBytes += st.ValueBytes
			sum.TotalBytes += st.TotalBytes
		}
		require.Equal(t, Stats{Items: int64(len(keys)), ValueBytes: bytes, TotalBytes: c.UsedBytes()}, sum)
	}
}

func TestLRUStaysWithinItsBytesUnderConcurrency(t *testing.T) {
	t.Parallel()
	c := NewLRU(LRUConfig[int]{MaxBytes: 40 << 20})
	require.Greater(t, len(c.shards), 1)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 0))
			buf := make([]byte, 1<<20)
			for range 1500 {
				key := rng.IntN(500)
				n := rng.IntN(len(buf))
				buf[0] = byte(key)
				switch rng.IntN(3) {
				case 0:
					c.Set(0, key, buf[:n], 0)
				case 1:
					c.Delete(key)
				default:
					if got, ok := c.Get(key); ok && len(got) > 0 && got[0] != byte(key) {
						t.Errorf("key %d has the value of another", key)
					}
				}
			}
		})
	}
	wg.Wait()
	held(t, c)
	require.Equal(t, c.Stats(0).TotalBytes, c.UsedBytes())
	require.LessOrEqual(t, c.UsedBytes(), c.cfg.MaxBytes)
	// A value as large as all shards together still fits.
	require.True(t, c.Set(0, 1000, make([]byte, 39<<20), 0))
}

// The accounted bytes are what the heap really grows by, at most a tenth less.
func TestLRUAccountsForItsOverhead(t *testing.T) {
	type key struct { // as large as those of the index cache
		ref uint64
		_   [56]byte
	}
	for _, size := range []int{0, 20, 100, 1000, 40_000} {
		n := min(300_000, 60<<20/(size+200))
		c := NewLRU(LRUConfig[key]{MaxBytes: 1 << 40})
		value := make([]byte, size)
		before := heap()
		for i := range n {
			c.Set(0, key{ref: uint64(i)}, value, 0)
		}
		grown := heap() - before
		t.Logf("%d values of %d bytes: heap grew by %d, accounted %d (%.2f)", n, size, grown, c.UsedBytes(), float64(grown)/float64(c.UsedBytes()))
		require.LessOrEqual(t, float64(grown), 1.1*float64(c.UsedBytes()))
		require.GreaterOrEqual(t, float64(grown), 0.6*float64(c.UsedBytes()), "nor much more than needed")
		runtime.KeepAlive(c)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkLRUGet(b *testing.B) {
	for _, maxBytes := range []int64{minShardBytes, minShardBytes * maxShards} { // one shard, all shards
		c := NewLRU(LRUConfig[[2]uint64]{MaxBytes: maxBytes})
		value := make([]byte, 100)
		const n = 20_000
		for i := range uint64(n) {
			c.Set(0, [2]uint64{1, i}, value, 0)
		}
		b.Run(fmt.Sprintf("shards=%d", len(c.shards)), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.Uint64(); pb.Next(); i += 7919 {
					if _, ok := c.Get([2]uint64{1, i % n}); !ok {
						b.Error("miss")
					}
				}
			})
		})
	}
}

func BenchmarkLRUSet(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			c := NewLRU(LRUConfig[[2]uint64]{MaxBytes: 64 << 20})
			value := make([]byte, size)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.Uint64(); pb.Next(); i++ {
					c.Set(0, [2]uint64{1, i}, value, 0)
				}
			})
		})
	}
}
