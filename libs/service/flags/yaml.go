package flags

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)
	yamlInType  = regexp.MustCompile(`field (\S+) not found in type \S+`)
	yamlCannot  = regexp.MustCompile("cannot unmarshal !!(\\w+) (`[^`]*`) into (\\S+)")
	yamlDup     = regexp.MustCompile(`mapping key ("[^"]*") already defined at line (\d+)`)
	yamlPrefix  = "yaml: "
	errTrailing = errors.New("more than one YAML document")
)

// DecodeYAML reads one YAML document strictly into v: a key that v does not know is an
// error. An empty document leaves v as it is. Every problem is reported as source:line: what.
func DecodeYAML(source string, data []byte, v any) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err := dec.Decode(new(yaml.Node)); err == nil {
			return fmt.Errorf("%s: %w", source, errTrailing)
		} else if !errors.Is(err, io.EOF) {
			return syntaxError(source, data, err)
		}
		return nil
	}
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return syntaxError(source, data, err)
	}
	errs := make([]error, len(te.Errors))
	for i, text := range te.Errors {
		errs[i] = errors.New(locate(source, text))
	}
	return errors.Join(errs...)
}

// syntaxError places the YAML library's error where the text stops being YAML; other errors than of syntax stay where they are.
func syntaxError(source string, data []byte, err error) error {
	text := err.Error()
	if line := brokenLine(data); line > 0 {
		text = fmt.Sprintf("line %d: %s", line, strings.TrimPrefix(yamlLine.ReplaceAllString(text, ""), yamlPrefix))
	}
	return errors.New(locate(source, text))
}

// locate turns the YAML library's message into source:line: what, in words that do not need
// knowledge of our Go types.
func locate(source, text string) string {
	where := source
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		where = source + ":" + m[1]
		text = text[len(m[0]):]
	}
	text = strings.TrimPrefix(text, yamlPrefix)
	text = yamlInType.ReplaceAllString(text, "unknown key $1")
	text = yamlCannot.ReplaceAllString(text, "cannot use $1 $2 as $3")
	text = yamlDup.ReplaceAllString(text, "key $1 is already given at line $2")
	return where + ": " + text
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
