package service

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

const (
	helpWidth  = 100
	helpIndent = 6
)

// writeHelp prints what the command is for and its flags, group by group, in the order in
// which they were bound.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", wrap(cmd.Long, helpWidth, 0), cmd.UseLine())
	for _, g := range groups(cmd.Flags()) {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, f := range g.flags {
			b.WriteString("  " + signature(f) + "\n")
			fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", helpIndent), wrap(f.Usage, helpWidth, helpIndent))
		}
	}
	// Help that cannot be written has nobody to tell.
	_, _ = io.WriteString(w, b.String())
}

type helpGroup struct {
	title string
	flags []*pflag.Flag
}

// groups collects the visible flags by title; those without one come last.
func groups(fs *pflag.FlagSet) []helpGroup {
	var out []helpGroup
	var rest []*pflag.Flag
	fs.VisitAll(func(f *pflag.Flag) {
		title := flags.GroupOf(f)
		switch {
		case f.Hidden:
		case title == "":
			rest = append(rest, f)
		default:
			for i := range out {
				if out[i].title == title {
					out[i].flags = append(out[i].flags, f)
					return
				}
			}
			out = append(out, helpGroup{title, []*pflag.Flag{f}})
		}
	})
	if len(rest) > 0 {
		out = append(out, helpGroup{"Other", rest})
	}
	return out
}

// signature is the flag as one would write it, with its default.
func signature(f *pflag.Flag) string {
	var s string
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", "
	}
	kind := f.Value.Type()
	if kind == "bool" {
		s += "--" + f.Name
		if f.DefValue == "true" {
			s += " (on unless --no-" + f.Name + ")"
		}
		return s
	}
	if !strings.HasPrefix(kind, "<") {
		kind = "<" + kind + ">"
	}
	s += "--" + f.Name + "=" + kind
	if f.DefValue != "" {
		s += " (default " + f.DefValue + ")"
	}
	return s
}

// wrap breaks text into lines of at most width, all but the first indented.
func wrap(text string, width, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
