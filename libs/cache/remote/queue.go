package remote

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// maxQueuedBytes bounds what waits to be stored, however many items that are: the queue's configured bound counts items,
// and ten thousand of the largest would be more than a process has.
const maxQueuedBytes = 64 << 20

// Item is what is to be stored.
type Item struct {
	Key   string
	Value []byte
	TTL   time.Duration // zero: for ever
}

// QueueConfig sizes a Queue.
type QueueConfig struct {
	// Length is how many items wait at most, Concurrency how many calls of store are under way at once, and Batch how many
	// items one of them gets at most. Each is at least 1.
	Length, Concurrency, Batch int
	// MaxItemBytes bounds one value; zero: no bound.
	MaxItemBytes int64
}

// Queue stores items behind the back of those who give them to it. What does not fit is dropped and counted. It is safe
// for concurrent use.
type Queue struct {
	cfg     QueueConfig
	store   func([]Item) error
	breaker *Breaker
	metrics *Metrics
	logger  *zap.Logger

	items chan Item
	stop  chan struct{}
	wg    sync.WaitGroup
	once  sync.Once
	bytes atomic.Int64 // of what waits or is being stored
}

// NewQueue starts a queue in front of store, which may keep the items' values but not the slice.
func NewQueue(cfg QueueConfig, breaker *Breaker, metrics *Metrics, logger *zap.Logger, store func([]Item) error) *Queue {
	q := &Queue{
		cfg: cfg, store: store, breaker: breaker, metrics: metrics, logger: logger,
		items: make(chan Item, max(cfg.Length, 1)), stop: make(chan struct{}),
	}
	for range max(cfg.Concurrency, 1) {
		q.wg.Go(q.work)
	}
	metrics.watch(q)
	return q
}

// Add copies an item into the queue, or drops it.
func (q *Queue) Add(key string, value []byte, ttl time.Duration) {
	size := int64(len(key) + len(value))
	if q.cfg.MaxItemBytes > 0 && int64(len(value)) > q.cfg.MaxItemBytes {
		q.metrics.Skipped(OpSet, SkipTooLarge, 1)
		return
	}
	if q.bytes.Add(size) > maxQueuedBytes {
		q.bytes.Add(-size)
		q.metrics.Skipped(OpSet, SkipQueueFull, 1)
		return
	}
	// A full queue is found out before anything is copied; the send below decides.
	if len(q.items) < cap(q.items) {
		select {
		case <-q.stop:
		case q.items <- Item{Key: strings.Clone(key), Value: append(make([]byte, 0, len(value)), value...), TTL: ttl}:
			return
		default:
		}
	}
	q.bytes.Add(-size)
	q.metrics.Skipped(OpSet, SkipQueueFull, 1)
}

// Close ends what is under way and forgets what waits.
func (q *Queue) Close() {
	q.once.Do(func() { close(q.stop) })
	q.wg.Wait()
}

func (q *Queue) work() {
	batch := make([]Item, 0, max(q.cfg.Batch, 1))
	for {
		batch = batch[:0]
		select {
		case <-q.stop:
			return
		case item := <-q.items:
			batch = append(batch, item)
		}
	fill:
		for len(batch) < cap(batch) {
			select {
			case item := <-q.items:
				batch = append(batch, item)
			default:
				break fill
			}
		}
		q.flush(batch)
		var size int64
		for i, item := range batch {
			size += int64(len(item.Key) + len(item.Value))
			batch[i] = Item{}
		}
		q.bytes.Add(-size)
	}
}

func (q *Queue) flush(batch []Item) {
	done, ok := q.breaker.Allow()
	if !ok {
		q.metrics.Skipped(OpSet, SkipBreaker, len(batch))
		return
	}
	start := time.Now()
	err := q.store(batch)
	done(err == nil)
	var size int
	for _, item := range batch {
		size += len(item.Value)
	}
	q.metrics.Done(OpSet, start, size, err)
	if err != nil {
		q.logger.Debug("items were not stored", zap.Int("items", len(batch)), zap.String("first", batch[0].Key), zap.Error(err))
	}
}
