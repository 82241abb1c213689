package cachetest

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/cache"
)

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }

// Await sets a value until it is found, since remote caches may not be connected yet.
func Await(t testing.TB, c cache.Cache, key string, value []byte) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.Set(key, value, time.Minute)
		got := c.Get(t.Context(), []string{key})[0]
		return got != nil && bytes.Equal(got, value)
	}, 20*time.Second, 10*time.Millisecond, "the cache does not keep %q", key)
}

// Suite checks what every cache owes its users. The cache must be able to hold 2 MiB and items of 100 KiB.
func Suite(t *testing.T, c cache.Cache) {
	t.Helper()
	Await(t, c, "first", []byte("value"))

	t.Run("values come in the order of keys", func(t *testing.T) {
		Await(t, c, "a", []byte("1"))
		Await(t, c, "empty", []byte{})
		got := c.Get(t.Context(), []string{"missing", "a", "empty", "a"})
		require.Equal(t, [][]byte{nil, []byte("1"), {}, []byte("1")}, got)
		require.Empty(t, c.Get(t.Context(), nil))
	})
	t.Run("any bytes are kept", func(t *testing.T) {
		value := make([]byte, 100<<10)
		for i := range value {
			value[i] = byte(i * 31 >> 2)
		}
		Await(t, c, "binary", value)
	})
	t.Run("values can be replaced", func(t *testing.T) {
		Await(t, c, "changing", []byte("old"))
		Await(t, c, "changing", []byte("new"))
	})
	t.Run("what is stored is a copy", func(t *testing.T) {
		value := []byte("value")
		c.Set("copied", value, 0)
		copy(value, "XXXXX")
		require.Eventually(t, func() bool { return c.Get(t.Context(), []string{"copied"})[0] != nil }, 10*time.Second, time.Millisecond)
		require.Equal(t, "value", string(c.Get(t.Context(), []string{"copied"})[0]))
	})
	t.Run("values end with their time", func(t *testing.T) {
		c.Set("short", []byte("v"), time.Second)
		require.Eventually(t, func() bool { return c.Get(t.Context(), []string{"short"})[0] == nil }, 20*time.Second, 50*time.Millisecond)
	})
	t.Run("many keys at once", func(t *testing.T) {
		const n = 3000
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("many:%d", i)
			c.Set(keys[i], []byte(keys[i]), time.Minute)
		}
		require.Eventually(t, func() bool {
			for i, value := range c.Get(t.Context(), keys) {
				if value == nil {
					c.Set(keys[i], []byte(keys[i]), time.Minute)
					return false
				}
				require.Equal(t, keys[i], string(value))
			}
			return true
		}, 20*time.Second, 10*time.Millisecond)
	})
	t.Run("keys that a protocol cannot say do no harm", func(t *testing.T) {
		bad := []string{"", "with space", "with\r\nget x", string(make([]byte, 300))}
		for _, key := range bad {
			c.Set(key, []byte("v"), time.Minute)
		}
		got := c.Get(t.Context(), append(bad, "first"))
		require.Equal(t, "value", string(got[len(bad)]))
	})
	t.Run("concurrent use", func(t *testing.T) {
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := range 100 {
					key := fmt.Sprintf("worker:%d", (worker+i)%10)
					c.Set(key, []byte(key), time.Minute)
					if got := c.Get(t.Context(), []string{key})[0]; got != nil && string(got) != key {
						t.Errorf("%s has the value %q", key, got)
					}
				}
			})
		}
		wg.Wait()
	})
}

// SurvivesTheServer kills the server behind a cache and starts it again: meanwhile there are only misses, quickly.
func SurvivesTheServer(t *testing.T, c cache.Cache, s *Server) {
	t.Helper()
	Await(t, c, "k", []byte("v"))
	s.Kill()
	keys := []string{"k", "other"}
	start := time.Now()
	for range 50 {
		c.Set("k", []byte("v2"), time.Minute)
		require.Equal(t, make([][]byte, 2), c.Get(t.Context(), keys))
	}
	require.Less(t, time.Since(start), 10*time.Second)
	s.Start(t)
	Await(t, c, "k", []byte("v3"))
}
