package remotewrite

import (
	"bytes"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// drain does with a request all that the receiver does with one.
func drain(r *Request) {
	for i := range r.Series {
		s := &r.Series[i]
		_, _, _ = AppendKey(nil, s.Labels)
		_, _ = ParseLabels(s.Labels)
		_ = Describe(s.Labels)
		_ = Without(s.Labels, "a")
		_ = s.Walk(&seen{})
	}
}

func FuzzDecodeV1(f *testing.F) {
	m, _ := v1Request().Marshal()
	f.Add(m)
	f.Add([]byte{0x0a, 0x03, 0x12, 0x01, 0x09})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Request
		err := r.DecodeV1(data)
		var ref prompb.WriteRequest
		// The reference also takes groups and overlong numbers, which nobody sends.
		if refErr := ref.Unmarshal(data); refErr == nil && err == nil && len(ref.Timeseries) != len(r.Series) {
			t.Fatalf("the reference reads %d series, we %d", len(ref.Timeseries), len(r.Series))
		}
		drain(&r)
	})
}

func FuzzDecodeV2(f *testing.F) {
	m, _ := v2Request().Marshal()
	f.Add(m)
	f.Add([]byte{0x22, 0x00, 0x2a, 0x02, 0x08, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Request
		err := r.DecodeV2(data)
		var ref writev2.Request
		if refErr := ref.Unmarshal(data); refErr == nil && err == nil && len(ref.Timeseries) != len(r.Series)+len(r.Bad) {
			t.Fatalf("the reference reads %d series, we %d and %d bad ones", len(ref.Timeseries), len(r.Series), len(r.Bad))
		}
		drain(&r)
	})
}

func FuzzBody(f *testing.F) {
	f.Add([]byte{0x04, 0x0c, 'a', 'b', 'c', 'd'})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, out, err := Body(bytes.NewReader(data), int64(len(data)), 1<<12, nil, nil)
		if err == nil && len(out) > MaxDecodedFactor<<12 {
			t.Fatalf("%d bytes came out", len(out))
		}
	})
}
