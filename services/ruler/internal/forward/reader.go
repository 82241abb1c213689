package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/logging"
)

// position is how much of the log a target has: all segments before Segment, and of that one so many
// records.
type position struct {
	Segment int `json:"segment"`
	Records int `json:"records"`
}

func loadPosition(path string) (position, error) {
	var p position
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func (p position) store(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o666); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// reader reads the log while it is written. It serves one goroutine.
type reader struct {
	log     *Log
	at      position // of the next record
	segment *wlog.Segment
	live    *wlog.LiveReader
	metrics *wlog.LiveReaderMetrics
	// ended tells that the segment was at its end when a newer one was there already.
	ended bool
}

func newReader(l *Log, from position) *reader {
	return &reader{log: l, at: from, metrics: wlog.NewLiveReaderMetrics(nil)}
}

func (r *reader) close() {
	if r.segment != nil {
		_ = r.segment.Close() // only read
		r.segment = nil
	}
}

// open opens the segment of the position and skips what is before it.
func (r *reader) open() error {
	first, last, err := wlog.Segments(r.log.dir)
	if err != nil {
		return fmt.Errorf("list the log of samples: %w", err)
	}
	switch {
	case r.at.Segment < first: // deleted: too old, or before our time
		r.at = position{Segment: first}
	case r.at.Segment > last: // the log was deleted by somebody
		r.at = position{Segment: last}
	}
	seg, err := wlog.OpenReadSegment(wlog.SegmentName(r.log.dir, r.at.Segment))
	if err != nil {
		return fmt.Errorf("open the log of samples: %w", err)
	}
	r.segment, r.ended = seg, false
	r.live = wlog.NewLiveReader(logging.Slog(r.log.logger), r.metrics, seg)
	for range r.at.Records {
		if !r.live.Next() {
			break
		}
	}
	return nil
}

// next returns the next record, false when there is none yet.
func (r *reader) next() (*prompb.WriteRequest, bool, error) {
	for {
		if r.segment == nil {
			if err := r.open(); err != nil {
				return nil, false, err
			}
		}
		if r.live.Next() {
			r.at.Records++
			req := &prompb.WriteRequest{}
			if err := req.Unmarshal(r.live.Record()); err != nil {
				r.log.logger.Error("a record of the log of samples cannot be read and is passed over", zap.Int("segment", r.at.Segment), zap.Error(err))
				continue
			}
			return req, true, nil
		}
		_, last, err := wlog.Segments(r.log.dir)
		if err != nil {
			return nil, false, fmt.Errorf("list the log of samples: %w", err)
		}
		newer := last > r.at.Segment
		if err := r.live.Err(); err != nil && !errors.Is(err, io.EOF) {
			if !newer {
				return nil, false, fmt.Errorf("read the log of samples: %w", err)
			}
			r.log.logger.Error("the rest of a segment of the log of samples cannot be read and is passed over", zap.Int("segment", r.at.Segment), zap.Error(err))
			r.ended = true
		}
		if !newer {
			return nil, false, nil
		}
		if !r.ended { // something may have come between the read and the look at the folder
			r.ended = true
			continue
		}
		r.close()
		r.at = position{Segment: r.at.Segment + 1}
	}
}
