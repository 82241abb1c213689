package flags

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// Content is what a pair of flags --x and --x-file holds: a document (YAML or JSON)
// given on the command line or in a file. The zero value is an unset pair.
type Content struct {
	name     string
	inline   string
	path     string
	required bool
	literal  bool
}

// ContentOption changes how a content pair behaves.
type ContentOption func(*Content)

// Required makes it a problem to leave both flags out.
func Required() ContentOption { return func(c *Content) { c.required = true } }

// Literal switches the substitution of $(NAME) off.
func Literal() ContentOption { return func(c *Content) { c.literal = true } }

// BindContent binds the pair --name and --name-file. Only one of the two may be given.
// Inside of the document $(NAME) stands for the environment variable NAME.
func BindContent(fs *pflag.FlagSet, c *Content, name, usage string, opts ...ContentOption) {
	c.name = name
	for _, o := range opts {
		o(c)
	}
	fs.Var(&filePath{c}, name+"-file", "Path to a file with "+usage)
	fs.Var(&inlineText{c}, name, "The same as --"+name+"-file with the content given inline.")
	// Such documents carry keys and passwords.
	Secret(fs, name)
}

// InlineContent returns content as if it had been given on the command line as --name;
// for tests and for configuration that is made by code.
func InlineContent(name, text string) Content { return Content{name: name, inline: text} }

// FileContent returns content as if --name-file had been given.
func FileContent(name, path string) Content { return Content{name: name, path: path} }

// IsSet reports whether either flag of the pair was given.
func (c *Content) IsSet() bool { return c.inline != "" || c.path != "" }

// Path returns the file the content comes from, "" when it was given inline or not at all.
func (c *Content) Path() string { return c.path }

// Source names where the content comes from, for messages: the path of the file, or the flag.
func (c *Content) Source() string {
	if c.path != "" {
		return c.path
	}
	return "--" + c.name
}

// Bytes returns the document with environment variables filled in; it is empty when neither
// flag was given. A file is read anew by every call. Errors name the flag.
func (c *Content) Bytes() ([]byte, error) {
	text := c.inline
	if c.path != "" {
		b, err := os.ReadFile(c.path)
		if err != nil {
			return nil, fmt.Errorf("--%s-file: %w", c.name, err)
		}
		text = string(b)
	}
	if c.literal {
		return []byte(text), nil
	}
	out, err := ExpandEnv(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Source(), err)
	}
	return []byte(out), nil
}

// Decode reads the document as strict YAML into v, which keeps its values where the document
// says nothing. Errors name the file or flag and the line.
func (c *Content) Decode(v any) error {
	b, err := c.Bytes()
	if err != nil {
		return err
	}
	return DecodeYAML(c.Source(), b, v)
}

func (c *Content) problems() []error {
	switch {
	case c.inline != "" && c.path != "":
		return []error{fmt.Errorf("cannot be used together with --%s-file", c.name)}
	case c.required && !c.IsSet():
		return []error{fmt.Errorf("required: give --%s or --%s-file", c.name, c.name)}
	default:
		return nil
	}
}

type inlineText struct{ c *Content }

func (v *inlineText) Set(s string) error { v.c.inline = s; return nil }
func (v *inlineText) Type() string       { return "content" }
func (v *inlineText) problems() []error  { return v.c.problems() }
func (v *inlineText) String() string {
	if v.c == nil {
		return ""
	}
	return v.c.inline
}

type filePath struct{ c *Content }

func (v *filePath) Set(s string) error { v.c.path = s; return nil }
func (v *filePath) Type() string       { return "file-path" }
func (v *filePath) String() string {
	if v.c == nil {
		return ""
	}
	return v.c.path
}

var envReference = regexp.MustCompile(`\$\(([a-zA-Z_][a-zA-Z0-9_]*)\)`)

// ExpandEnv replaces every $(NAME) by the environment variable NAME. Variables that are
// not set are an error that names all of them; $NAME and ${NAME} stay as they are.
func ExpandEnv(text string) (string, error) {
	var missing []string
	out := envReference.ReplaceAllStringFunc(text, func(ref string) string {
		name := ref[2 : len(ref)-1]
		v, ok := os.LookupEnv(name)
		if !ok {
			missing = append(missing, name)
		}
		return v
	})
	if len(missing) > 0 {
		return "", errors.New("environment variable not set: " + strings.Join(missing, ", "))
	}
	return out, nil
}
