package upload

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"
)

// Interval is how often the folder is looked at.
const Interval = 30 * time.Second

// Shipper uploads what is there and not uploaded yet; *ship.Shipper is one.
type Shipper interface {
	Sync(ctx context.Context) (uploaded int, err error)
}

// Loop ships at once and then every interval.
type Loop struct {
	Shipper Shipper
	// Started is closed when labels are known.
	Started <-chan struct{}
	// Labels are the external labels of the blocks to come; while it says false nothing is uploaded,
	// since labels cannot be corrected afterwards.
	Labels   func() (labels.Labels, bool)
	Interval time.Duration
	Logger   *zap.Logger
}

// Run returns when ctx ends. No failure ends it: the next sync tries again.
func (l *Loop) Run(ctx context.Context) error {
	select {
	case <-l.Started:
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(l.Interval)
	defer ticker.Stop()
	for {
		l.sync(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Loop) sync(ctx context.Context) {
	if _, ok := l.Labels(); !ok {
		l.Logger.Warn("no uploads while Prometheus has no external labels")
		return
	}
	uploaded, err := l.Shipper.Sync(ctx)
	if err != nil && ctx.Err() == nil {
		l.Logger.Error("upload of blocks failed, trying again", zap.Int("uploaded", uploaded), zap.Duration("retry_in", l.Interval), zap.Error(err))
	}
}
