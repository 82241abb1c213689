package rules

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// uploads brings blocks of an output to a bucket. A nil one has nowhere to bring them.
type uploads struct {
	bkt     objstore.InstrumentedBucket
	shipper *ship.Shipper // once the labels are known
	out     *output
	logger  *zap.Logger
	reg     prometheus.Registerer
}

// uploadConcurrency is how many files of a block are sent at once.
const uploadConcurrency = 5

func openUploads(content *flags.Content, logger *zap.Logger, out *output) (*uploads, error) {
	text, err := content.Bytes()
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	bkt, err := objstore.New(text, "rules-backfill", logger, reg, objstore.WithSource(content.Source()))
	if err != nil {
		return nil, err
	}
	return &uploads{bkt: bkt, out: out, logger: logger, reg: reg}, nil
}

// label says which external labels blocks have.
func (u *uploads) label(external labels.Labels) (err error) {
	if u == nil {
		return nil
	}
	u.shipper, err = ship.New(u.logger, u.bkt, ship.Config{
		Dir: u.out.dir, Labels: func() labels.Labels { return external }, Source: block.SourceRuler, UploadConcurrency: uploadConcurrency,
	}, u.reg)
	return err
}

func (u *uploads) close(logger *zap.Logger) {
	if u == nil {
		return
	}
	if err := u.bkt.Close(); err != nil {
		logger.Warn("close bucket", zap.Error(err))
	}
}

// sync uploads what is not in the bucket yet.
func (u *uploads) sync(ctx context.Context) (int, error) {
	if u == nil {
		return 0, nil
	}
	n, err := u.shipper.Sync(ctx)
	if err != nil {
		return n, fmt.Errorf("upload: %w", err)
	}
	return n, nil
}

// choose returns the first of the candidates under which none of the windows would overlap a block of others in the
// bucket: blocks with the same external labels that overlap are what compactors stumble over.
func (u *uploads) choose(ctx context.Context, windows []window, candidates []labels.Labels) (labels.Labels, error) {
	if u == nil {
		return candidates[0], nil
	}
	base, err := fetch.NewBase(u.logger, u.bkt, fetch.Config{Concurrency: fetch.DefaultConcurrency}, nil)
	if err != nil {
		return labels.EmptyLabels(), err
	}
	result, err := base.NewFetcher(nil).Fetch(ctx)
	if err != nil {
		return labels.EmptyLabels(), fmt.Errorf("read the blocks of the bucket: %w", err)
	}
	for _, external := range candidates {
		if err = u.collision(slices.Collect(maps.Values(result.Metas)), windows, external); err == nil {
			return external, nil
		}
	}
	return labels.EmptyLabels(), err
}

func (u *uploads) collision(metas []*block.Meta, windows []window, external labels.Labels) error {
	own := u.out.blocks()
	for _, m := range metas {
		if own[m.ULID.String()] || !labels.Equal(labels.FromMap(m.Thanos.Labels), external) {
			continue
		}
		for i := range windows {
			w := &windows[i]
			if first, last := w.bounds(); m.MinTime > last || first >= m.MaxTime || u.out.isDone(w.key(external)) {
				continue
			}
			return fmt.Errorf("--label: block %s of the bucket (%s to %s) has the external labels %s too, and a block of %s to %s would overlap it: give labels that differ in one that queriers remove, such as rule_replica=\"backfill\"",
				m.ULID, utc(m.MinTime), utc(m.MaxTime), external, utc(w.mint), utc(w.maxt))
		}
	}
	return nil
}
