// Package docs takes pages of Markdown apart: the commands they tell a reader to run, the flags and metrics they name, and
// where their links lead.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Page is one file.
type Page struct {
	Path string
	// code holds the lines of code blocks, those that end with a backslash joined with the next; spans the code inside
	// of sentences.
	code, spans []string
	links       []string
	anchors     map[string]bool
}

var (
	span    = regexp.MustCompile("`([^`]+)`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#+ (.*)$`)
)

// Read reads a page. A line that is indented by four or more, or fenced, is code.
func Read(path string) (*Page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Page{Path: path, anchors: map[string]bool{}}
	var fenced, joined bool
	var prose []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			line = strings.TrimSpace(line)
			if joined {
				p.code[len(p.code)-1] += " " + line
			} else {
				p.code = append(p.code, line)
			}
			last := &p.code[len(p.code)-1]
			*last, joined = strings.CutSuffix(*last, `\`)
		default:
			joined = false
			prose = append(prose, line)
			if m := heading.FindStringSubmatch(line); m != nil {
				p.anchors[anchor(m[1])] = true
			}
		}
	}
	// A span or a link may go on in the next line.
	whole := strings.Join(prose, "\n")
	for _, m := range span.FindAllStringSubmatch(whole, -1) {
		p.spans = append(p.spans, strings.Join(strings.Fields(m[1]), " "))
	}
	for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(whole, "code"), -1) {
		p.links = append(p.links, m[1])
	}
	return p, nil
}

// anchor is the address of a heading within its page.
func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.ReplaceAll(title, "`", ""))
}

// BrokenLinks are the links to files that are not there, or to headings that their pages do not have. Links to other hosts
// are not followed.
func (p *Page) BrokenLinks() ([]string, error) {
	var broken []string
	for _, to := range p.links {
		if strings.Contains(to, "://") {
			continue
		}
		path, name, _ := strings.Cut(to, "#")
		target := p
		if path != "" {
			full := filepath.Join(filepath.Dir(p.Path), path)
			if _, err := os.Stat(full); err != nil {
				broken = append(broken, to)
				continue
			}
			if name == "" {
				continue
			}
			var err error
			if target, err = Read(full); err != nil {
				return nil, fmt.Errorf("follow %s: %w", to, err)
			}
		}
		if name != "" && !target.anchors[name] {
			broken = append(broken, to)
		}
	}
	return broken, nil
}

// Commands are the commands of the page that start with one of the programs, comments taken off: those of code blocks, in
// each stage of a pipe and inside $(…), and those inside of sentences.
func (p *Page) Commands(programs ...string) []string {
	var out []string
	for _, text := range append(append([]string{}, p.code...), p.spans...) {
		text, _, _ = strings.Cut(text, " #")
		for _, stage := range strings.FieldsFunc(text, func(r rune) bool { return r == '|' || r == ';' }) {
			fields := strings.Fields(strings.ReplaceAll(stage, "$(", ""))
			for _, program := range programs {
				if len(fields) > 0 && fields[0] == program {
					out = append(out, strings.Join(fields, " "))
				}
			}
		}
	}
	return out
}

// Lines are the lines of code, and the code inside of sentences, that start with a program; with all of their pipes.
func (p *Page) Lines(program string) []string {
	var out []string
	for _, text := range append(append([]string{}, p.code...), p.spans...) {
		if strings.HasPrefix(text, program+" ") {
			out = append(out, text)
		}
	}
	return out
}

var (
	flag   = regexp.MustCompile(`(?:^|[\s'"(\x60])(--[a-z][a-z0-9.-]*)`)
	metric = regexp.MustCompile(`(?:^|[^.\w])((?:thanos|promontory|cortex)_[a-z0-9_]+)`)
)

// Flags are the flags in a text.
func Flags(text string) []string {
	var out []string
	for _, m := range flag.FindAllStringSubmatch(text, -1) {
		out = append(out, strings.TrimRight(m[1], "."))
	}
	return out
}

// LoneFlags are the flags that sentences name without a program.
func (p *Page) LoneFlags() []string {
	var out []string
	for _, s := range p.spans {
		if strings.HasPrefix(s, "--") {
			out = append(out, Flags(s)...)
		}
	}
	return out
}

// Metrics are the names of metrics on the page.
func (p *Page) Metrics() []string {
	var out []string
	for _, s := range append(append([]string{}, p.code...), p.spans...) {
		for _, m := range metric.FindAllStringSubmatch(s, -1) { // after a dot it is a field of something
			out = append(out, m[1])
		}
	}
	return out
}
