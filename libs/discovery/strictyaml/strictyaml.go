// Package strictyaml reads YAML settings so that nothing in them is overlooked: keys nobody reads and
// a second document are errors, and every error names the file and the line.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Decode reads the one document in content into out, which must be a pointer. Empty content leaves out as it is.
// name is what errors call the content: a file's path, or a flag's name for content given inline.
//
// A type in out must not implement yaml.Unmarshaler over structs with keys of its own: the
// strictness does not reach through it.
func Decode(name string, content []byte, out any) (err error) {
	defer func() {
		// The YAML parser is known to panic on some malformed documents; here these are bad input like any other.
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: malformed YAML: %v", name, p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(content))
	dec.KnownFields(true)
	if err := dec.Decode(out); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return located(name, content, err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return located(name, content, err)
	default:
		return fmt.Errorf("%s:%d: more than one YAML document", name, second.Line)
	}
}

// Lines returns the line of each entry of the list at the path of keys, so that a check of values can name it.
// A path that leads nowhere has no lines. The content must have been decoded before.
func Lines(content []byte, path ...string) []int {
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil || len(doc.Content) == 0 {
		return nil
	}
	n := doc.Content[0]
	for _, key := range path {
		if n = child(n, key); n == nil {
			return nil
		}
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		return nil
	}
	lines := make([]int, len(n.Content))
	for i, c := range n.Content {
		lines[i] = c.Line
	}
	return lines
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

var (
	linePrefix   = regexp.MustCompile(`^line (\d+): `)
	unknownField = regexp.MustCompile(`^field (.+) not found in type .+$`)
	wrongType    = regexp.MustCompile("^cannot unmarshal !!([a-z]+)(?: `(.*)`)? into (.+)$")
)

// located turns the YAML library's error into "name:line: text", one line of text for each problem.
func located(name string, content []byte, err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if line := brokenLine(content); line > 0 {
			text = fmt.Sprintf("line %d: %s", line, linePrefix.ReplaceAllString(text, ""))
		}
		return errors.New(locate(name, text))
	}
	problems := make([]error, len(te.Errors))
	for i, text := range te.Errors {
		problems[i] = errors.New(locate(name, text))
	}
	return errors.Join(problems...)
}

func locate(name, text string) string {
	if m := linePrefix.FindStringSubmatch(text); m != nil {
		name += ":" + m[1]
		text = text[len(m[0]):]
	}
	if m := unknownField.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("unknown key %q", m[1])
	}
	if m := wrongType.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("%s is not %s", given(m[1], m[2]), wanted(m[3]))
	}
	return name + ": " + text
}

// given names a value by its text, or by its kind if it is none.
func given(tag, text string) string {
	switch {
	case text != "":
		return fmt.Sprintf("%q", text)
	case tag == "seq":
		return "a list"
	default:
		return "a " + tag
	}
}

// wanted says in the words of YAML what a Go type takes.
func wanted(goType string) string {
	switch goType = strings.TrimLeft(goType, "*"); {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "a text"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case goType == "time.Duration":
		return "a duration"
	default:
		return "a map of keys"
	}
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
