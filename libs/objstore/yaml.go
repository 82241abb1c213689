package objstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is the top level of a YAML configuration with the texts of its values, each at the line where it was found.
type document struct {
	text  []byte
	keys  []*yaml.Node
	value map[string]*yaml.Node
}

// parseDocument reads the mapping at the top of text and refuses keys that are not known. Errors name the line.
func parseDocument(text []byte, known ...string) (*document, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	if err := dec.Decode(&root); errors.Is(err, io.EOF) {
		return nil, errors.New("is empty")
	} else if err != nil {
		return nil, syntaxError(text, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, syntaxError(text, err)
		}
		return nil, fmt.Errorf("line %d: a second YAML document", second.Line)
	}
	top := root.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, errors.New("is empty")
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: not a mapping of keys to values", top.Line)
	}
	d := &document{text: text, value: map[string]*yaml.Node{}}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if !slices.Contains(known, key.Value) {
			return nil, fmt.Errorf("line %d: unknown key %q (known: %s)", key.Line, key.Value, strings.Join(known, ", "))
		}
		if d.value[key.Value] != nil {
			return nil, fmt.Errorf("line %d: key %q is set twice", key.Line, key.Value)
		}
		d.keys = append(d.keys, key)
		d.value[key.Value] = value
	}
	return d, nil
}

// str returns the value of a key that must be a scalar; "" if there is no such key or it is null.
func (d *document) str(key string) (string, error) {
	value := d.value[key]
	if value == nil {
		return "", nil
	}
	var s *string
	if err := value.Decode(&s); err != nil {
		return "", fmt.Errorf("line %d: %s is not a string", value.Line, key)
	}
	if s == nil {
		return "", nil
	}
	return *s, nil
}

// section returns the value of a key as a YAML document of its own whose line numbers are those of the whole, so that
// errors of whoever parses it lead to the right line. lines is false where that could not be done, because of anchors
// for example; then the numbers mean nothing. A missing or null value gives an empty text.
func (d *document) section(key string) (text []byte, lines bool, err error) {
	value := d.value[key]
	if value == nil || (value.Kind == yaml.ScalarNode && value.Tag == "!!null") {
		return nil, true, nil
	}
	text = d.cut(value)
	var want, got any
	if err := value.Decode(&want); err != nil {
		return nil, false, plainYAMLError(err)
	}
	if yaml.Unmarshal(text, &got) == nil && reflect.DeepEqual(want, got) {
		return text, true, nil
	}
	text, err = yaml.Marshal(inline(value))
	return text, false, err
}

// inline copies a value with what its aliases stand for in their places. The value has been decoded before, so the
// library has already refused aliases that unfold without end.
func inline(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return inline(n.Alias)
	}
	out := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style}
	for _, child := range n.Content {
		out.Content = append(out.Content, inline(child))
	}
	return out
}

// cut blanks out everything around a value: a guess, which section verifies.
func (d *document) cut(value *yaml.Node) []byte {
	lines := bytes.SplitAfter(d.text, []byte("\n"))
	end := len(lines)
	for _, key := range d.keys {
		if key.Line > value.Line {
			end = min(end, key.Line-1)
		}
	}
	first := value.Line - 1
	if first < 0 || first >= end || value.Column < 1 || value.Column-1 > len(lines[first]) {
		return nil
	}
	var out bytes.Buffer
	out.WriteString(strings.Repeat("\n", first))
	out.WriteString(strings.Repeat(" ", value.Column-1))
	out.Write(lines[first][value.Column-1:])
	for _, line := range lines[first+1 : end] {
		out.Write(line)
	}
	return out.Bytes()
}

// decodeStrict decodes a section into out and refuses unknown keys.
func (d *document) decodeStrict(key string, out any) error {
	text, lines, err := d.section(key)
	if err != nil || len(text) == 0 {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(out); err != nil {
		return sectionError(err, key, lines)
	}
	return nil
}

var (
	unknownField = regexp.MustCompile(`field (.+?) not found in (type|struct) \S+`)
	duplicateKey = regexp.MustCompile(`field (.+?) already set in (type|struct) \S+`)
	goType       = regexp.MustCompile(`( into) [a-z]*\.?[A-Z]\w*`)
	lineNumber   = regexp.MustCompile(`line \d+: `)
)

// plainYAMLError says what the YAML libraries say, on one line and without the names of Go types.
func plainYAMLError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	parts := strings.Split(text, "\n")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	text = strings.Join(parts, "; ")
	text = unknownField.ReplaceAllString(text, `unknown key "$1"`)
	text = duplicateKey.ReplaceAllString(text, `key "$1" is set twice`)
	text = goType.ReplaceAllString(text, `$1 what is expected here`)
	return errors.New(text)
}

// syntaxError is plainYAMLError for text that is no YAML, with the line where it stops being some.
func syntaxError(text []byte, err error) error {
	plain := plainYAMLError(err)
	if line := brokenLine(text); line > 0 {
		return fmt.Errorf("line %d: %s", line, lineNumber.ReplaceAllString(plain.Error(), ""))
	}
	return plain
}

// sectionError is plainYAMLError for a section, without line numbers if they mean nothing.
func sectionError(err error, key string, lines bool) error {
	text := plainYAMLError(err).Error()
	if !lines {
		text = lineNumber.ReplaceAllString(text, "")
	}
	if lineNumber.MatchString(text) {
		return errors.New(text)
	}
	return fmt.Errorf("%s: %s", key, text)
}

// maxSearchedLines bounds the search for the line of a syntax error, which parses the text again and again.
const maxSearchedLines = 1000

// brokenLine returns the line at which text stops being YAML: the one after the longest run of first lines that parses.
// It is 0 for text that parses, and for very long text. The library's own number is one too low for most errors, and
// often that of the enclosing list or mapping.
func brokenLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) > maxSearchedLines || parses(text) {
		return 0
	}
	for n := len(lines) - 1; n > 0; n-- {
		if parses(bytes.Join(lines[:n], nil)) {
			return n + 1
		}
	}
	return 1
}

func parses(text []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
