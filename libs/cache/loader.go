package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
)

// Loader reads through a cache. What several callers miss at the same time is fetched once for all of them.
type Loader struct {
	cache   Cache
	flights singleflight.Group
}

// NewLoader returns a Loader in front of c.
func NewLoader(c Cache) *Loader { return &Loader{cache: c} }

// GetOrFetch returns the cached value of key, or what fetch gives, which is then stored for the ttl. The value must not be
// changed: others get it too.
//
// fetch runs with the context of one of the callers that wait for it. When that caller goes away, one of the others
// fetches again. Errors are not cached, but all who wait for the same fetch get its error.
func (l *Loader) GetOrFetch(ctx context.Context, key string, ttl time.Duration, fetch func(context.Context) ([]byte, error)) ([]byte, error) {
	if value := l.cache.Get(ctx, []string{key})[0]; value != nil {
		return value, nil
	}
	return l.Fetch(ctx, key, ttl, fetch)
}

// Fetch is GetOrFetch for who has just missed the key: it does not look again before it fetches.
func (l *Loader) Fetch(ctx context.Context, key string, ttl time.Duration, fetch func(context.Context) ([]byte, error)) ([]byte, error) {
	for {
		led := false
		flight := l.flights.DoChan(key, func() (any, error) {
			led = true
			value, err := fetch(ctx)
			if err != nil && ctx.Err() != nil {
				return nil, fmt.Errorf("%w: %w", errLeaderGone, err)
			}
			if err != nil {
				return nil, err
			}
			l.cache.Set(key, value, ttl)
			return value, nil
		})
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case result := <-flight:
			if result.Err == nil {
				return result.Val.([]byte), nil
			}
			if led || !errors.Is(result.Err, errLeaderGone) || ctx.Err() != nil {
				return nil, result.Err
			}
		}
	}
}

// errLeaderGone marks errors that may only be due to the end of the context of the caller who fetched.
var errLeaderGone = errors.New("the caller that was fetching went away")
