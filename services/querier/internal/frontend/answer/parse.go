package answer

import (
	"bytes"
)

// Parse reads a successful answer to a query, or to a call for labels or series. What the answer has beyond that is left
// out. Errors are [ErrMalformed].
func Parse(body []byte) (*Answer, error) {
	a := &Answer{}
	s := &scanner{b: body}
	var status, data []byte
	err := s.object(func(key string) (err error) {
		switch key {
		case "status":
			status, err = s.text()
		case "data":
			s.space()
			from := s.i
			if err = a.data(s); err == nil {
				data = body[from:s.i]
			}
		case "warnings":
			a.Warnings, err = s.texts()
		case "infos":
			a.Infos, err = s.texts()
		default:
			_, err = s.value()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.space(); s.i != len(body) {
		return nil, malformed("text after the end at byte %d", s.i)
	}
	if string(status) != `"success"` || data == nil {
		return nil, malformed("status %s with %d bytes of data", status, len(data))
	}
	return a, nil
}

func (s *scanner) texts() ([]string, error) {
	if s.null() {
		return nil, nil
	}
	var out []string
	err := s.array(func() error {
		quoted, err := s.text()
		if err != nil {
			return err
		}
		text, err := unquote(quoted)
		out = append(out, text)
		return err
	})
	return out, err
}

func (s *scanner) null() bool {
	s.space()
	if !bytes.HasPrefix(s.b[s.i:], []byte("null")) {
		return false
	}
	s.i += len("null")
	return true
}

// data reads what is under the key of that name: a list, or the result of a query.
func (a *Answer) data(s *scanner) error {
	s.space()
	if s.i < len(s.b) && (s.b[s.i] == '[' || s.b[s.i] == 'n') {
		a.Type = TypeList
		if s.null() {
			return nil
		}
		return s.array(func() error {
			item, err := s.value()
			a.Items = append(a.Items, item)
			return err
		})
	}
	var result []byte
	err := s.object(func(key string) (err error) {
		switch key {
		case "resultType":
			var quoted []byte
			if quoted, err = s.text(); err == nil {
				a.Type, err = unquote(quoted)
			}
		case "result":
			if a.Type == TypeMatrix || a.Type == TypeVector {
				result = []byte{}
				return a.series(s)
			}
			result, err = s.value()
		case "stats":
			a.Stats, err = s.value()
		case "analysis":
			a.Analysis, err = s.value()
		default:
			_, err = s.value()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case a.Type == "" || result == nil:
		return malformed("data without resultType or result")
	case len(result) > 0 && (a.Type == TypeMatrix || a.Type == TypeVector):
		// The type came after the result.
		inner := &scanner{b: result}
		return a.series(inner)
	}
	a.Value = result
	return nil
}

func (a *Answer) series(s *scanner) error {
	if s.null() {
		return nil
	}
	return s.array(func() error {
		var one Series
		err := s.object(func(key string) (err error) {
			switch key {
			case "metric":
				one.Metric, err = s.value()
			case "values":
				one.Floats, err = s.points()
			case "histograms":
				one.Histograms, err = s.points()
			case "value":
				one.Floats, err = s.point()
			case "histogram":
				one.Histograms, err = s.point()
			default:
				_, err = s.value()
			}
			return err
		})
		if err == nil && (len(one.Metric) == 0 || one.Metric[0] != '{') {
			err = malformed("series without metric at byte %d", s.i)
		}
		a.Series = append(a.Series, one)
		return err
	})
}

func (s *scanner) point() (Points, error) {
	p, err := s.value()
	return Points{p}, err
}

// points reads the points of a series as one piece. Those of floats hold no brackets but their own, and one series has
// thousands: they are not walked through byte by byte.
func (s *scanner) points() (Points, error) {
	if err := s.next('['); err != nil {
		return nil, err
	}
	if s.try(']') {
		return nil, nil
	}
	s.space()
	start := s.i
	for {
		if err := s.skipPoint(); err != nil {
			return nil, err
		}
		end := s.i
		if s.try(']') {
			return Points{s.b[start:end]}, nil
		}
		if err := s.next(','); err != nil {
			return nil, err
		}
		s.space()
	}
}

// skipPoint goes behind the point that begins here.
func (s *scanner) skipPoint() error {
	if s.i >= len(s.b) || s.b[s.i] != '[' {
		return malformed("want a point at byte %d", s.i)
	}
	end := bytes.IndexByte(s.b[s.i:], ']')
	if end < 0 {
		return malformed("point without end at byte %d", s.i)
	}
	// The text of a float value has no bracket, that of a histogram begins with a brace.
	if bytes.IndexByte(s.b[s.i:s.i+end], '{') < 0 {
		s.i += end + 1
		return nil
	}
	_, err := s.value()
	return err
}
