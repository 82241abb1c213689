package cache

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func TestMemoryKeepsTheOrderOfKeys(t *testing.T) {
	t.Parallel()
	c := NewMemory(1<<20, 1<<10)
	defer func() { require.NoError(t, c.Close()) }()
	c.Set("a", []byte("1"), 0)
	c.Set("empty", nil, 0)
	c.Set("large", make([]byte, 2000), 0)
	require.Equal(t, [][]byte{nil, []byte("1"), {}, nil, []byte("1")}, c.Get(t.Context(), []string{"x", "a", "empty", "large", "a"}))
	require.Equal(t, int64(2), c.Stats().Items)
	require.Empty(t, c.Get(t.Context(), nil))
}

func TestLoaderFetchesOnceForAllWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLoader(NewMemory(1<<20, 0))
		var fetches atomic.Int64
		for range 10 {
			go func() {
				got, err := l.GetOrFetch(t.Context(), "k", 0, func(context.Context) ([]byte, error) {
					fetches.Add(1)
					time.Sleep(time.Second) // fake time
					return []byte("v"), nil
				})
				if err != nil || string(got) != "v" {
					t.Errorf("got %q, %v", got, err)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, fetches.Load())
		_, err := l.GetOrFetch(t.Context(), "k", 0, nil)
		require.NoError(t, err, "cached: nothing is fetched")
	})
}

func TestLoaderDoesNotCacheErrors(t *testing.T) {
	t.Parallel()
	l := NewLoader(NewMemory(1<<20, 0))
	errBroken := errors.New("broken")
	_, err := l.GetOrFetch(t.Context(), "k", 0, func(context.Context) ([]byte, error) { return nil, errBroken })
	require.Equal(t, errBroken, err)
	got, err := l.GetOrFetch(t.Context(), "k", 0, func(context.Context) ([]byte, error) { return []byte("v"), nil })
	require.NoError(t, err)
	require.Equal(t, "v", string(got))
}

func TestLoaderGoesOnWhenTheOneWhoFetchesGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLoader(NewMemory(1<<20, 0))
		fetch := func(ctx context.Context) ([]byte, error) {
			select {
			case <-time.After(time.Second):
				return []byte("v"), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		first, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := l.GetOrFetch(first, "k", 0, fetch)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}()
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err := l.GetOrFetch(t.Context(), "k", 0, fetch)
			if err != nil || string(got) != "v" {
				t.Errorf("got %q, %v", got, err)
			}
		}()
		synctest.Wait()
		cancel()
		<-done
	})
}

func TestByteSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ByteSize{
		"0": 0, "1000": 1000, "1B": 1, "2KB": 2048, "2KiB": 2048, "2k": 2048, "250MB": 250 * MiB, "250MiB": 250 * MiB,
		"2GB": 2 * GiB, "1.5GB": 3 * GiB / 2, " 3 TiB ": 3 * TiB, "8388607TiB": 8388607 * TiB,
	} {
		got, err := ParseByteSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "MB", "-1", "-1MB", "1e3", "1XB", "1 2", "0x10", "8388608TiB", "99999999999999999999", "NaN", "1.5.5", "Inf"} {
		_, err := ParseByteSize(text)
		require.ErrorContains(t, err, "is not a size in bytes", text)
	}
	require.Equal(t, "250MiB 1536MiB 1001B 0B", (250*MiB).String()+" "+(3*GiB/2).String()+" "+ByteSize(1001).String()+" "+ByteSize(0).String())
	var cfg struct{ A, B ByteSize }
	require.NoError(t, yaml.Unmarshal([]byte("a: 5\nb: 1KB"), &cfg))
	require.EqualValues(t, 1029, cfg.A+cfg.B)
	require.ErrorContains(t, yaml.Unmarshal([]byte("a: 5\nb: much"), &cfg), "line 2")
	require.ErrorContains(t, yaml.Unmarshal([]byte("a: [5]"), &cfg), "line 1")
}

func FuzzParseByteSize(f *testing.F) {
	for _, seed := range []string{"1", "250MB", "1.5GiB", "", "kib"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseByteSize(text)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, size, ByteSize(0))
		again, err := ParseByteSize(size.String())
		require.NoError(t, err)
		require.Equal(t, size, again)
	})
}

func TestACacheOfSizeZeroHoldsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []MemoryConfig{{}, {MaxItemSize: MiB}} {
		require.NoError(t, c.Validate())
		c = c.WithDefaults()
		m := NewMemory(int64(c.MaxSize), int64(c.MaxItemSize))
		m.Set("a", []byte{1}, time.Hour)
		m.Set("empty", nil, 0)
		require.Equal(t, [][]byte{nil, nil}, m.Get(t.Context(), []string{"a", "empty"}))
		require.NoError(t, m.Close())
	}
	require.ErrorContains(t, MemoryConfig{MaxSize: -1}.Validate(), "max_size must not be negative")
}
