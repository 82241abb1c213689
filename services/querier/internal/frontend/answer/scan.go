package answer

import (
	"bytes"
	"encoding/json"
)

// scanner walks over JSON text. It checks what it needs to find its way, and no more: values of points are not looked at.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// next reads c after white space.
func (s *scanner) next(c byte) error {
	s.space()
	if s.i >= len(s.b) || s.b[s.i] != c {
		return malformed("want %q at byte %d", c, s.i)
	}
	s.i++
	return nil
}

// try reads c after white space if it is there.
func (s *scanner) try(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// text reads a string and returns it with its quotes.
func (s *scanner) text() ([]byte, error) {
	if err := s.next('"'); err != nil {
		return nil, err
	}
	start := s.i - 1
	for s.i < len(s.b) {
		n := bytes.IndexByte(s.b[s.i:], '"')
		if n < 0 {
			break
		}
		end := s.i + n
		s.i = end + 1
		escapes := 0
		for k := end - 1; k > start && s.b[k] == '\\'; k-- {
			escapes++
		}
		if escapes%2 == 0 {
			return s.b[start:s.i], nil
		}
	}
	return nil, malformed("string without end at byte %d", start)
}

// maxDepth bounds how deep values that are skipped may be nested.
const maxDepth = 64

// value reads any value and returns its text.
func (s *scanner) value() ([]byte, error) {
	s.space()
	start, depth := s.i, 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case '"':
			if _, err := s.text(); err != nil {
				return nil, err
			}
		case '[', '{':
			if depth++; depth > maxDepth {
				return nil, malformed("value nested too deep at byte %d", s.i)
			}
			s.i++
			continue
		case ']', '}':
			if depth == 0 {
				return nil, malformed("unexpected %q at byte %d", c, s.i)
			}
			depth--
			s.i++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return nil, malformed("value missing at byte %d", s.i)
			}
			s.i++
			continue
		default:
			s.literal()
		}
		if depth == 0 {
			return s.b[start:s.i], nil
		}
	}
	return nil, malformed("value without end at byte %d", start)
}

// literal skips a number or a word.
func (s *scanner) literal() {
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case ',', ':', ']', '}', '[', '{', '"', ' ', '\t', '\n', '\r':
			return
		}
	}
}

// object reads an object; each is called before each value, and has to read it.
func (s *scanner) object(each func(key string) error) error {
	if err := s.next('{'); err != nil {
		return err
	}
	if s.try('}') {
		return nil
	}
	for {
		quoted, err := s.text()
		if err != nil {
			return err
		}
		key, err := unquote(quoted)
		if err != nil {
			return err
		}
		if err := s.next(':'); err != nil {
			return err
		}
		if err := each(key); err != nil {
			return err
		}
		if s.try('}') {
			return nil
		}
		if err := s.next(','); err != nil {
			return err
		}
	}
}

// array reads an array; each is called before each element, and has to read it.
func (s *scanner) array(each func() error) error {
	if err := s.next('['); err != nil {
		return err
	}
	if s.try(']') {
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		if s.try(']') {
			return nil
		}
		if err := s.next(','); err != nil {
			return err
		}
	}
}

func unquote(quoted []byte) (string, error) {
	if len(quoted) >= 2 && bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "", malformed("string %s: %w", quoted, err)
	}
	return text, nil
}
