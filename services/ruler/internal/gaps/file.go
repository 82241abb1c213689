package gaps

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
)

// Gaps are written soon. That nothing is missing may wait: what a crash takes of it is a gap of this length in
// which nothing is missing, which costs whoever fills it a look.
const (
	soon  = time.Second
	later = 10 * time.Second
)

// Run writes the file now and then until ctx ends, and once more then.
func (l *Log) Run(ctx context.Context) error {
	written := time.Now()
	ticker := time.NewTicker(soon)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.Save(time.Now())
		case now := <-ticker.C:
			l.mu.Lock()
			due := l.hasty || l.dirty && now.Sub(written) >= later
			l.mu.Unlock()
			if !due {
				continue
			}
			if err := l.Save(now); err != nil {
				l.logger.Error("write gaps of rules", zap.Error(err))
			}
			written = time.Now()
		}
	}
}

// Save writes the file if there is anything new, without gaps that are too old by now.
func (l *Log) Save(now time.Time) error {
	b, err := l.encode(now)
	if b == nil || err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Dir(l.path), 0o777); err == nil {
		err = block.WriteFileAtomic(l.path, b)
	}
	if err != nil {
		l.mu.Lock()
		l.dirty = true
		l.mu.Unlock()
		return fmt.Errorf("write gaps of rules: %w", err)
	}
	return nil
}

// encode returns what is to be written, nil for nothing.
func (l *Log) encode(now time.Time) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "" || !l.dirty {
		return nil, nil
	}
	doc := document{Version: version, Rules: []*history{}}
	for k, h := range l.rules {
		n := len(h.Gaps)
		h.Gaps = slices.DeleteFunc(h.Gaps, func(s Span) bool { return now.Sub(s.End) > keepFor })
		h.Open = h.Open && len(h.Gaps) > 0
		if n > 0 && len(h.Gaps) == 0 && h.Evaluated.IsZero() {
			delete(l.rules, k)
			continue
		}
		doc.Rules = append(doc.Rules, h)
	}
	slices.SortFunc(doc.Rules, func(a, b *history) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Query, b.Query))
	})
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write gaps of rules: %w", err)
	}
	l.dirty, l.hasty = false, false
	return b, nil
}
