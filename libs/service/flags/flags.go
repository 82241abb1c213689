// Package flags holds the kinds of command line flags that all services share.
//
// Every function here binds one flag to a variable whose present value is the
// default, so that defaults stand in one place (a DefaultConfig function) and
// BindFlags says names and help only. A value that cannot be parsed does not stop
// parsing: it is remembered, and Check reports all such problems at once, each
// with the name of its flag.
//
// The syntax is that of the programs these flags come from: --name=value and
// --name value, boolean flags with a hidden --no-name twin, repeatable flags that
// replace their default with the first value given.
package flags

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
)

// String binds a flag whose value is taken as it is.
func String(fs *pflag.FlagSet, p *string, name, usage string) {
	scalar(fs, name, usage, "string", p, func(s string) (string, error) { return s, nil }, func(v string) string { return v })
}

// Strings binds a repeatable flag; every occurrence adds one element, taken as it is.
func Strings(fs *pflag.FlagSet, p *[]string, name, usage string) {
	repeated(fs, name, usage, "string", p, func(s string) ([]string, error) { return []string{s}, nil }, func(v string) string { return v })
}

// List binds a flag that may be repeated, comma separated, or both. Blanks around
// an element and empty elements are dropped.
func List(fs *pflag.FlagSet, p *[]string, name, usage string) {
	repeated(fs, name, usage, "list", p, splitList, func(v string) string { return v })
}

// Int binds a flag for a decimal integer.
func Int(fs *pflag.FlagSet, p *int, name, usage string) {
	scalar(fs, name, usage, "int", p, func(s string) (int, error) {
		v, err := strconv.Atoi(s)
		return v, numError(err)
	}, strconv.Itoa)
}

// Int64 binds a flag for a decimal 64-bit integer.
func Int64(fs *pflag.FlagSet, p *int64, name, usage string) {
	scalar(fs, name, usage, "int", p, func(s string) (int64, error) {
		v, err := strconv.ParseInt(s, 10, 64)
		return v, numError(err)
	}, func(v int64) string { return strconv.FormatInt(v, 10) })
}

// Uint64 binds a flag for a non-negative decimal integer.
func Uint64(fs *pflag.FlagSet, p *uint64, name, usage string) {
	scalar(fs, name, usage, "uint", p, func(s string) (uint64, error) {
		v, err := strconv.ParseUint(s, 10, 64)
		return v, numError(err)
	}, func(v uint64) string { return strconv.FormatUint(v, 10) })
}

// Float64 binds a flag for a floating point number.
func Float64(fs *pflag.FlagSet, p *float64, name, usage string) {
	scalar(fs, name, usage, "float", p, parseFloat, formatFloat)
}

// Float64s binds a repeatable flag of floating point numbers.
func Float64s(fs *pflag.FlagSet, p *[]float64, name, usage string) {
	repeated(fs, name, usage, "float", p, func(s string) ([]float64, error) {
		v, err := parseFloat(s)
		return []float64{v}, err
	}, formatFloat)
}

// Duration binds a flag for a duration. Both ways of writing one are understood:
// Prometheus' (1d, 2w, 1h30m) and Go's (1.5h, -5m, 0ms).
func Duration(fs *pflag.FlagSet, p *time.Duration, name, usage string) {
	scalar(fs, name, usage, "duration", p, ParseDuration, FormatDuration)
}

// Bytes binds a flag for a number of bytes such as 250MB or 2GiB; see ParseBytes.
func Bytes(fs *pflag.FlagSet, p *int64, name, usage string) {
	scalar(fs, name, usage, "bytes", p, ParseBytes, FormatBytes)
}

// Enum binds a flag that takes one of the allowed words.
func Enum(fs *pflag.FlagSet, p *string, name, usage string, allowed ...string) {
	scalar(fs, name, usage, strings.Join(allowed, "|"), p, oneOf(allowed), func(v string) string { return v })
}

// Enums binds a repeatable flag, each value of which is one of the allowed words.
func Enums(fs *pflag.FlagSet, p *[]string, name, usage string, allowed ...string) {
	parse := oneOf(allowed)
	repeated(fs, name, usage, strings.Join(allowed, "|"), p, func(s string) ([]string, error) {
		v, err := parse(s)
		return []string{v}, err
	}, func(v string) string { return v })
}

// Bool binds a boolean flag --name and its hidden opposite --no-name. Where both
// are given the last one holds.
func Bool(fs *pflag.FlagSet, p *bool, name, usage string) {
	v := &value[bool]{dst: p, kind: "bool", parse: parseBool, format: strconv.FormatBool}
	fs.VarPF(v, name, "", usage).NoOptDefVal = "true"
	bindNegation(fs, v, name)
}

// Label is one name and value pair of a label flag.
type Label struct {
	Name  string
	Value string
}

// String returns the label as it is written on the command line: name="value".
func (l Label) String() string { return l.Name + "=" + strconv.Quote(l.Value) }

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// Labels binds a repeatable flag name="value" whose value is quoted as in Go.
// Labels are kept in the order given; the same name twice is a problem.
func Labels(fs *pflag.FlagSet, p *[]Label, name, usage string) {
	repeated(fs, name, usage, `<name>="<value>"`, p, func(s string) ([]Label, error) {
		l, err := ParseLabel(s)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(*p, func(o Label) bool { return o.Name == l.Name }) && fs.Changed(name) {
			return nil, fmt.Errorf("label %q is given twice", l.Name)
		}
		return []Label{l}, nil
	}, Label.String)
}

// ParseLabel reads name="value".
func ParseLabel(s string) (Label, error) {
	name, quoted, found := strings.Cut(s, "=")
	if !found {
		return Label{}, errors.New(`want name="value"`)
	}
	if !labelName.MatchString(name) {
		return Label{}, fmt.Errorf("%q is no valid label name", name)
	}
	value, err := strconv.Unquote(quoted)
	if err != nil {
		return Label{}, fmt.Errorf(`value of label %q has to be quoted: want %s="value"`, name, name)
	}
	return Label{Name: name, Value: value}, nil
}

// ParseDuration reads a duration in Prometheus' or Go's way of writing it.
func ParseDuration(s string) (time.Duration, error) {
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("want a duration such as 30s, 5m, 1h30m or 2d")
	}
	return d, nil
}

// FormatDuration writes d the way ParseDuration reads it, in the largest units.
func FormatDuration(d time.Duration) string {
	if d < 0 || d%time.Millisecond != 0 {
		return d.String()
	}
	return model.Duration(d).String()
}

func parseFloat(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	return v, numError(err)
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return v, nil
}

// numError drops strconv's own naming of function and input: the flag and the value
// are named by Check.
func numError(err error) error {
	var ne *strconv.NumError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ne) && errors.Is(ne.Err, strconv.ErrRange):
		return errors.New("the number is out of range")
	default:
		return errors.New("want a number")
	}
}

func oneOf(allowed []string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(allowed, s) {
			return "", fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
		}
		return s, nil
	}
}

func splitList(s string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out, nil
}
