// Package cachebucket reads a bucket through a cache: pieces of chunk files and their attributes, content and existence of
// small metadata files, and the listing of the root. Everything else goes to the bucket as it is.
//
// Keys and values are those of Thanos, so that both may share a cache. The cache is never trusted: what it says must have
// the right form and length, or it counts as a miss; and whatever is odd about an object is settled by asking the bucket.
// What several callers miss at the same time is read once.
//
// Writing does not touch the cache. It is for readers of blocks, which never change, and who can bear to hear of new
// blocks and markers as late as the lifetimes allow.
package cachebucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
)

// Bucket is a bucket behind a cache. It is safe for concurrent use.
type Bucket struct {
	objstore.Bucket
	*shared
}

// shared is what all views of a bucket have in common.
type shared struct {
	instrumented objstore.InstrumentedBucket
	cache        cache.Cache
	loader       *cache.Loader
	flights      flights
	// sizes are those that the bucket itself has told.
	sizes   *cache.LRU[string]
	cfg     Settings
	hash    string
	metrics *metrics
	logger  *zap.Logger
}

var _ objstore.InstrumentedBucket = (*Bucket)(nil)

const sizesBytes = 1 << 20

// New puts the cache in front of bkt. Closing the result closes bkt but not the cache. The registry may be nil.
func New(bkt objstore.InstrumentedBucket, c cache.Cache, cfg Settings, hash string, logger *zap.Logger, reg prometheus.Registerer) *Bucket {
	return &Bucket{Bucket: bkt, shared: &shared{
		instrumented: bkt, cache: c, loader: cache.NewLoader(c), cfg: cfg, hash: hash, metrics: newMetrics(reg), logger: logger.Named("cachebucket"),
		flights: flights{running: map[string]*flight{}},
		sizes:   cache.NewLRU(cache.LRUConfig[string]{MaxBytes: sizesBytes, KeyBytes: func(k string) int { return len(k) }}),
	}}
}

// WithExpectedErrs returns the same bucket with other expectations, see objstore.InstrumentedBucket.
func (b *Bucket) WithExpectedErrs(expected objstore.IsOpFailureExpectedFunc) objstore.Bucket {
	return &Bucket{Bucket: b.instrumented.WithExpectedErrs(expected), shared: b.shared}
}

// ReaderWithExpectedErrs is WithExpectedErrs for who only reads.
func (b *Bucket) ReaderWithExpectedErrs(expected objstore.IsOpFailureExpectedFunc) objstore.BucketReader {
	return b.WithExpectedErrs(expected)
}

var chunkFile = regexp.MustCompile(`^.*/chunks/\d+$`)

func isChunkFile(name string) bool { return chunkFile.MatchString(name) }

func isMetaFile(name string) bool {
	return strings.HasSuffix(name, "/meta.json") || strings.HasSuffix(name, "/deletion-mark.json")
}

// errNotThere says that the cache remembers that an object is not there.
var errNotThere = errors.New("object does not exist, as the cache remembers")

// IsObjNotFoundErr also knows what the cache remembers.
func (b *Bucket) IsObjNotFoundErr(err error) bool {
	return errors.Is(err, errNotThere) || b.Bucket.IsObjNotFoundErr(err)
}

func existsKey(name string) string  { return "exists:" + name }
func contentKey(name string) string { return "content:" + name }
func attrsKey(name string) string   { return "attrs:" + name }

// rememberExists stores whether an object is there.
func (b *Bucket) rememberExists(name string, exists bool) {
	ttl := b.cfg.MetafileExistsTTL
	if !exists {
		ttl = b.cfg.MetafileDoesntExistTTL
	}
	if ttl > 0 {
		b.cache.Set(existsKey(name), strconv.AppendBool(nil, exists), time.Duration(ttl))
	}
}

// knownExists reads what rememberExists has stored.
func knownExists(value []byte) (exists, known bool) {
	switch string(value) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// Exists tells whether an object is there; for metadata files it may be as old as the configuration allows.
func (b *Bucket) Exists(ctx context.Context, name string) (bool, error) {
	if !isMetaFile(name) {
		return b.Bucket.Exists(ctx, name)
	}
	exists, known := knownExists(b.cache.Get(ctx, []string{existsKey(name)})[0])
	b.metrics.asked(objstore.OpExists, kindMeta, part(known))
	if known {
		return exists, nil
	}
	exists, err := b.Bucket.Exists(ctx, name)
	if err == nil {
		b.rememberExists(name, exists)
	}
	return exists, err
}

func part(hit bool) float64 {
	if hit {
		return 1
	}
	return 0
}

// errTooLarge says that an object is not for the cache.
var errTooLarge = errors.New("object is too large for the cache")

// Get reads an object; metadata files come from memory.
func (b *Bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if !isMetaFile(name) {
		return b.Bucket.Get(ctx, name)
	}
	found := b.cache.Get(ctx, []string{contentKey(name), existsKey(name)})
	// Both kinds of files are JSON, which is all that can be checked.
	if found[0] != nil && json.Valid(found[0]) {
		b.metrics.asked(objstore.OpGet, kindMeta, 1)
		return io.NopCloser(bytes.NewReader(found[0])), nil
	}
	if exists, known := knownExists(found[1]); known && !exists {
		b.metrics.asked(objstore.OpGet, kindMeta, 1)
		return nil, fmt.Errorf("%s: %w", name, errNotThere)
	}
	b.metrics.asked(objstore.OpGet, kindMeta, 0)
	content, err := b.loader.Fetch(ctx, contentKey(name), time.Duration(b.cfg.MetafileContentTTL), func(ctx context.Context) ([]byte, error) {
		return b.readMeta(ctx, name)
	})
	if errors.Is(err, errTooLarge) {
		return b.Bucket.Get(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

func (b *Bucket) readMeta(ctx context.Context, name string) (content []byte, err error) {
	r, err := b.Bucket.Get(ctx, name)
	if err != nil {
		if b.Bucket.IsObjNotFoundErr(err) {
			b.rememberExists(name, false)
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	limit := int64(b.cfg.MetafileMaxSize)
	if content, err = io.ReadAll(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b.rememberExists(name, true)
	if int64(len(content)) > limit {
		return nil, errTooLarge
	}
	return content, nil
}

// Attributes tells the size of an object; those of chunk files are kept.
func (b *Bucket) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	if !isChunkFile(name) {
		return b.Bucket.Attributes(ctx, name)
	}
	attrs, known := decodeAttrs(b.cache.Get(ctx, []string{attrsKey(name)})[0])
	b.metrics.asked(objstore.OpAttributes, kindChunks, part(known))
	if known {
		return attrs, nil
	}
	return b.freshAttributes(ctx, name)
}

func decodeAttrs(value []byte) (attrs objstore.ObjectAttributes, ok bool) {
	if value == nil || json.Unmarshal(value, &attrs) != nil || attrs.Size < 0 || attrs.LastModified.IsZero() && attrs.Size == 0 {
		return objstore.ObjectAttributes{}, false
	}
	return attrs, true
}

// freshAttributes asks the bucket.
func (b *Bucket) freshAttributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	value, err := b.loader.Fetch(ctx, attrsKey(name), time.Duration(b.cfg.ChunkObjectAttrsTTL), func(ctx context.Context) ([]byte, error) {
		attrs, err := b.Bucket.Attributes(ctx, name)
		if err != nil {
			return nil, err
		}
		b.sizes.Set(0, name, strconv.AppendInt(nil, attrs.Size, 10), 0)
		return json.Marshal(attrs)
	})
	if err != nil {
		return objstore.ObjectAttributes{}, err
	}
	var attrs objstore.ObjectAttributes
	if err := json.Unmarshal(value, &attrs); err != nil {
		return objstore.ObjectAttributes{}, fmt.Errorf("attributes of %s: %w", name, err)
	}
	return attrs, nil
}

// Iter lists a folder; the listing of the root may be as old as the configuration allows.
func (b *Bucket) Iter(ctx context.Context, dir string, f func(string) error, options ...objstore.IterOption) error {
	params := objstore.ApplyIterOptions(options...)
	if dir != "" || params.LastModified {
		return b.Bucket.Iter(ctx, dir, f, options...)
	}
	names, err := b.list(ctx, dir, params.Recursive, options)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := f(name); err != nil {
			return err
		}
	}
	return nil
}

// IterWithAttributes is Iter where no attributes are asked for, and goes to the bucket where they are.
func (b *Bucket) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, options ...objstore.IterOption) error {
	if dir != "" || objstore.ApplyIterOptions(options...).LastModified {
		return b.Bucket.IterWithAttributes(ctx, dir, f, options...)
	}
	return b.Iter(ctx, dir, func(name string) error { return f(objstore.IterObjectAttributes{Name: name}) }, options...)
}

func (b *Bucket) list(ctx context.Context, dir string, recursive bool, options []objstore.IterOption) ([]string, error) {
	key := "iter:" + dir + ":" + b.hash
	if recursive {
		key = "iter-recursive:" + dir + ":" + b.hash
	}
	if names, ok := decodeNames(b.cache.Get(ctx, []string{key})[0]); ok {
		b.metrics.asked(objstore.OpIter, kindBlocks, 1)
		return names, nil
	}
	b.metrics.asked(objstore.OpIter, kindBlocks, 0)
	value, err := b.loader.Fetch(ctx, key, time.Duration(b.cfg.BlocksIterTTL), func(ctx context.Context) ([]byte, error) {
		names := []string{}
		if err := b.Bucket.Iter(ctx, dir, func(name string) error {
			names = append(names, name)
			return nil
		}, options...); err != nil {
			return nil, err
		}
		return json.Marshal(names)
	})
	if err != nil {
		return nil, err
	}
	names, ok := decodeNames(value)
	if !ok {
		return nil, fmt.Errorf("list %q: names that JSON cannot say", dir)
	}
	return names, nil
}

func decodeNames(value []byte) (names []string, ok bool) {
	if value == nil || json.Unmarshal(value, &names) != nil || names == nil {
		return nil, false
	}
	return names, true
}
