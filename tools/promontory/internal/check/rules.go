// Package check holds the commands that look at files before a running service does.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/promontory-io/promontory/libs/rulefile"
)

// counts is what a good rule file holds.
type counts struct{ groups, rules int }

// Failure is that something looked at is not as it should be, in contrast to not having been able to look.
type Failure struct{ error }

// ExitCode is that of the process.
func (Failure) ExitCode() int { return 1 }

// unusable is a check that could not be made: flags that contradict, files that are not there.
type unusable struct{ error }

// ExitCode is that of the process.
func (unusable) ExitCode() int { return 2 }

// expand returns the files behind the patterns, each once, in the order of the patterns. A pattern without a file is an
// error: a check that looked at nothing must not pass. what is what errors call the patterns.
func expand(what string, patterns []string) ([]string, error) {
	var files []string
	var errs []error
	for _, p := range patterns {
		matches, err := filepath.Glob(p)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s%q: %w", what, p, err))
		case len(matches) == 0:
			errs = append(errs, fmt.Errorf("%sno file matches %q", what, p))
		}
		for _, m := range matches {
			if !slices.Contains(files, m) {
				files = append(files, m)
			}
		}
	}
	return files, errors.Join(errs...)
}

func checkFile(file string) ([]rulefile.Group, []error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, []error{err}
	}
	groups, err := rulefile.Parse(file, content)
	return groups, rulefile.Problems(err)
}

func count(groups []rulefile.Group) counts {
	c := counts{groups: len(groups)}
	for _, g := range groups {
		c.rules += len(g.Rules)
	}
	return c
}

// lookAt checks rule files, and says what each holds or what is wrong with it.
func lookAt(files []string, out io.Writer) (total counts, failed int, groups []rulefile.Group) {
	for _, file := range files {
		found, errs := checkFile(file)
		if len(errs) > 0 {
			failed++
			fmt.Fprintf(out, "%s: %d problems\n", file, len(errs))
			for _, e := range errs {
				fmt.Fprintf(out, "  %v\n", e)
			}
			continue
		}
		c := count(found)
		total.groups, total.rules = total.groups+c.groups, total.rules+c.rules
		groups = append(groups, found...)
		fmt.Fprintf(out, "%s: %d rules in %d groups\n", file, c.rules, c.groups)
	}
	slices.SortStableFunc(groups, func(a, b rulefile.Group) int { return cmp.Compare(a.File, b.File) })
	return total, failed, groups
}
