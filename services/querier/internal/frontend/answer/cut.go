package answer

import (
	"bytes"
	"strconv"
)

// Cut returns the points of a matrix from start to end, Unix milliseconds and both inclusive, at times that are start plus a
// whole number of steps; with step 0 at any time. Series without such a point are left out. It shares memory with a.
func (a *Answer) Cut(start, end, step int64) (*Answer, error) {
	out := *a
	out.Series = make([]Series, 0, len(a.Series))
	for i := range a.Series {
		s := &a.Series[i]
		floats, err := s.Floats.cutFloats(start, end, step)
		if err != nil {
			return nil, err
		}
		histograms, err := s.Histograms.cut(start, end, step)
		if err != nil {
			return nil, err
		}
		if len(floats) > 0 || len(histograms) > 0 {
			out.Series = append(out.Series, Series{Metric: s.Metric, Floats: floats, Histograms: histograms})
		}
	}
	return &out, nil
}

// cutFloats is cut for points of floats, which have no bracket but the one they begin with: their ends are found by halving.
func (p Points) cutFloats(start, end, step int64) (Points, error) {
	var out Points
	for _, piece := range p {
		if step != 0 || bytes.IndexByte(piece, '{') >= 0 {
			return p.cut(start, end, step)
		}
		from, err := seek(piece, start)
		if err != nil {
			return nil, err
		}
		to, err := seek(piece[from:], end+1)
		if err != nil {
			return nil, err
		}
		if run := bytes.TrimRight(piece[from:from+to], ", \t\r\n"); len(run) > 0 {
			out = append(out, run)
		}
	}
	return out, nil
}

// seek returns where the first point of piece with a time of at least t begins; where there is none, the length of piece.
func seek(piece []byte, t int64) (int, error) {
	low, high := 0, len(piece) // what is before low is earlier, what begins at high or later is not
	for low < high {
		begin := low
		if n := bytes.IndexByte(piece[low+(high-low)/2:high], '['); n >= 0 {
			begin = low + (high-low)/2 + n
		}
		s := &scanner{b: piece, i: begin}
		if s.space(); s.i >= high {
			break
		}
		at, err := s.timestamp()
		if err != nil {
			return 0, err
		}
		switch {
		case at >= t && begin == low:
			return low, nil
		case at >= t:
			high = begin
		default:
			next := bytes.IndexByte(piece[s.i+1:], '[')
			if next < 0 {
				return len(piece), nil
			}
			low = s.i + 1 + next
		}
	}
	return high, nil
}

// cut walks over the points and takes runs of them that are wanted.
func (p Points) cut(start, end, step int64) (Points, error) {
	var out Points
	for _, piece := range p {
		s := &scanner{b: piece}
		from, to := -1, 0 // the run that is open
		for s.i < len(piece) {
			begin := s.i
			t, err := s.timestamp()
			if err != nil {
				return nil, err
			}
			if err := s.skipPoint(); err != nil {
				return nil, err
			}
			switch wanted := t >= start && t <= end && (step == 0 || (t-start)%step == 0); {
			case wanted && from < 0:
				from, to = begin, s.i
			case wanted:
				to = s.i
			case from >= 0:
				out = append(out, piece[from:to])
				from = -1
			}
			if s.space(); s.i < len(piece) {
				if err := s.next(','); err != nil {
					return nil, err
				}
				s.space()
			}
		}
		if from >= 0 {
			out = append(out, piece[from:to])
		}
	}
	return out, nil
}

// First returns the time of the earliest point of a matrix in Unix milliseconds; ok is false where it has none.
func (a *Answer) First() (t int64, ok bool, err error) {
	for i := range a.Series {
		for _, p := range []Points{a.Series[i].Floats, a.Series[i].Histograms} {
			if len(p) == 0 {
				continue
			}
			s := &scanner{b: p[0]}
			first, err := s.timestamp()
			if err != nil {
				return 0, false, err
			}
			if !ok || first < t {
				t, ok = first, true
			}
		}
	}
	return t, ok, nil
}

// timestamp reads the time of the point that begins here and stays where it is.
func (s *scanner) timestamp() (int64, error) {
	b := s.b[s.i:]
	comma := bytes.IndexByte(b, ',')
	if comma < 2 || b[0] != '[' {
		return 0, malformed("point without time at byte %d", s.i)
	}
	text := b[1:comma]
	if t, ok := millis(text); ok {
		return t, nil
	}
	f, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
	if err != nil || f*1000 != float64(int64(f*1000)) {
		return 0, malformed("time %q of a point", text)
	}
	return int64(f * 1000), nil
}

// millis reads seconds with at most three decimals.
func millis(text []byte) (int64, bool) {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	var n int64
	decimals := -1
	for _, c := range text {
		if c == '.' && decimals < 0 {
			decimals = 0
			continue
		}
		if c < '0' || c > '9' || decimals == 3 || n > 1<<56 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
		if decimals >= 0 {
			decimals++
		}
	}
	for range 3 - max(decimals, 0) {
		n *= 10
	}
	if negative {
		n = -n
	}
	return n, len(text) > 0
}
