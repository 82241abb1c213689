package flags

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// checker is a flag value that remembers what was wrong with it.
type checker interface {
	problems() []error
}

// warner is a flag value that has something to say about its use.
type warner interface {
	warnings() []string
}

// Check returns everything that was wrong with the values given to the flags of fs,
// joined, each with the name of its flag; nil when nothing was. It is to be called
// once after parsing.
func Check(fs *pflag.FlagSet) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		if c, ok := f.Value.(checker); ok {
			for _, err := range c.problems() {
				errs = append(errs, fmt.Errorf("--%s: %w", f.Name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// Warnings returns what the user should know about the flags given: those that are
// deprecated, and those that no longer do anything.
func Warnings(fs *pflag.FlagSet) []string {
	var out []string
	fs.VisitAll(func(f *pflag.Flag) {
		if w, ok := f.Value.(warner); ok && f.Changed {
			for _, text := range w.warnings() {
				out = append(out, "--"+f.Name+" "+text)
			}
		}
	})
	return out
}

// value is a flag that holds one T; the last occurrence counts.
type value[T any] struct {
	dst    *T
	kind   string
	parse  func(string) (T, error)
	format func(T) string
	errs   []error
}

func scalar[T any](fs *pflag.FlagSet, name, usage, kind string, p *T, parse func(string) (T, error), format func(T) string) {
	fs.Var(&value[T]{dst: p, kind: kind, parse: parse, format: format}, name, usage)
}

func (v *value[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err != nil {
		v.errs = append(v.errs, fmt.Errorf("%q: %w", s, err))
		return nil
	}
	*v.dst = parsed
	return nil
}

// String is also called by pflag on a zero value, to learn what an empty default looks like.
func (v *value[T]) String() string {
	if v.dst == nil {
		return ""
	}
	return v.format(*v.dst)
}

func (v *value[T]) Type() string      { return v.kind }
func (v *value[T]) problems() []error { return v.errs }

// list is a repeatable flag. The first occurrence replaces the default.
type list[T any] struct {
	dst    *[]T
	kind   string
	parse  func(string) ([]T, error)
	format func(T) string
	set    bool
	errs   []error
}

func repeated[T any](fs *pflag.FlagSet, name, usage, kind string, p *[]T, parse func(string) ([]T, error), format func(T) string) {
	fs.Var(&list[T]{dst: p, kind: kind, parse: parse, format: format}, name, usage)
}

func (v *list[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err != nil {
		v.errs = append(v.errs, fmt.Errorf("%q: %w", s, err))
		return nil
	}
	if !v.set {
		*v.dst = nil
		v.set = true
	}
	*v.dst = append(*v.dst, parsed...)
	return nil
}

func (v *list[T]) String() string {
	if v.dst == nil {
		return ""
	}
	parts := make([]string, len(*v.dst))
	for i, e := range *v.dst {
		parts[i] = v.format(e)
	}
	return strings.Join(parts, ",")
}

func (v *list[T]) Type() string      { return v.kind }
func (v *list[T]) problems() []error { return v.errs }

// negation is the hidden --no-x of a boolean flag x.
type negation struct {
	of   pflag.Value
	errs []error
}

func bindNegation(fs *pflag.FlagSet, of pflag.Value, name string) {
	f := fs.VarPF(&negation{of: of}, "no-"+name, "", "Opposite of --"+name+".")
	f.NoOptDefVal = "true"
	f.Hidden = true
}

func (n *negation) Set(s string) error {
	on, err := parseBool(s)
	if err != nil {
		n.errs = append(n.errs, fmt.Errorf("%q: %w", s, err))
		return nil
	}
	if on {
		return n.of.Set("false")
	}
	return n.of.Set("true")
}

func (n *negation) String() string    { return "" }
func (n *negation) Type() string      { return "bool" }
func (n *negation) problems() []error { return n.errs }

// AddNegations gives every boolean flag of fs that has none a hidden --no-name twin.
// Flags bound with Bool have theirs already.
func AddNegations(fs *pflag.FlagSet) {
	var missing []*pflag.Flag
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" && !strings.HasPrefix(f.Name, "no-") && fs.Lookup("no-"+f.Name) == nil {
			missing = append(missing, f)
		}
	})
	for _, f := range missing {
		bindNegation(fs, f.Value, f.Name)
	}
}
