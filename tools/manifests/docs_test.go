package manifests

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/promontory-io/promontory/tools/manifests/internal/docs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ownPrograms are those that have command lines of ours.
var ownPrograms = []string{"querier", "sidecar", "store-gateway", "ruler", "compactor", "receiver", "bucket-web", "promontory"}

// docPages are the pages of the repository that somebody reads who runs it.
func docPages(t testing.TB) []*docs.Page {
	t.Helper()
	paths := []string{root(t, "README.md")}
	for _, pattern := range []string{"operate/*.md", "adr/*.md", "format/*.md", "changes/*.md"} {
		found, err := filepath.Glob(root(t, "docs", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		paths = append(paths, found...)
	}
	var pages []*docs.Page
	for _, path := range paths {
		page, err := docs.Read(path)
		require.NoError(t, err)
		pages = append(pages, page)
	}
	return pages
}

// operatorsPages are those that tell what to type.
func operatorsPages(t testing.TB) []*docs.Page {
	t.Helper()
	var out []*docs.Page
	for _, page := range docPages(t) {
		if filepath.Base(filepath.Dir(page.Path)) == "operate" || filepath.Base(page.Path) == "README.md" {
			out = append(out, page)
		}
	}
	return out
}

func TestEveryLinkOfTheDocsLeadsSomewhere(t *testing.T) {
	t.Parallel()
	for _, page := range docPages(t) {
		broken, err := page.BrokenLinks()
		require.NoError(t, err, page.Path)
		require.Empty(t, broken, page.Path)
	}
}

// helps runs programs with --help, each command once.
type helps struct {
	mu   sync.Mutex
	text map[string]string // guarded by mu
}

// of is the help of a program, or of one of its commands.
func (h *helps) of(t testing.TB, name string, words ...string) string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	key := strings.Join(append([]string{name}, words...), " ")
	if text, ok := h.text[key]; ok {
		return text
	}
	source, folder := "make build", "bin"
	if name == "prometheus" {
		source, folder = "make peers", ".bin"
	}
	path := program(t, source, folder, name)
	out, err := exec.CommandContext(t.Context(), path, append(words, "--help")...).CombinedOutput()
	require.NoError(t, err, "%s --help: %s", key, out)
	h.text[key] = string(out)
	return string(out)
}

// has tells whether a help lists a flag. Flags that bind a text or its file are listed once: `--x-file`.
func has(help, flag string) bool {
	return regexp.MustCompile(`(^|[\s,\[])` + regexp.QuoteMeta(flag) + `($|[\s=\],])`).MatchString(help)
}

// available matches a line of a list of commands, with the command's name.
var available = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) {2,}`)

// below is the help of all commands below the one that words name.
func (h *helps) below(t *testing.T, name string, words ...string) string {
	t.Helper()
	help := h.of(t, name, words...)
	_, list, ok := strings.Cut(help, "Available Commands:")
	if !ok {
		return help
	}
	list, _, _ = strings.Cut(list, "\n\n")
	var all strings.Builder
	all.WriteString(help)
	for _, command := range available.FindAllStringSubmatch(list, -1) {
		all.WriteString(h.below(t, name, append(slices.Clone(words), command[1])...))
	}
	return all.String()
}

var word = regexp.MustCompile(`^[a-z][a-z-]*$`)

func TestEveryCommandOfTheDocsIsTakenByItsProgram(t *testing.T) {
	t.Parallel()
	h := &helps{text: map[string]string{}}
	var seen int
	for _, page := range operatorsPages(t) {
		for _, command := range page.Commands(ownPrograms...) {
			fields := strings.Fields(command)
			name, words := fields[0], []string(nil)
			if name == "promontory" {
				for _, field := range fields[1:] {
					if !word.MatchString(field) {
						break
					}
					words = append(words, field)
				}
			}
			help := h.of(t, name, words...)
			if len(words) > 0 {
				require.Regexp(t, `(?m)^Usage:\s+promontory `+strings.Join(words, " ")+`\b`, help, "%s: %s: is no command", page.Path, command)
			}
			for _, flag := range docs.Flags(command) {
				require.True(t, has(help, flag), "%s: %s: %s has no flag %s", page.Path, command, name, flag)
				seen++
			}
		}
	}
	require.Greater(t, seen, 10)
}

// unlisted are flags that programs take without listing them. Manifests and argument lists that other tests start have them,
// or, of a text and its file, the file.
var unlisted = map[string]bool{
	"--store": true, "--debug.accept-malformed-index": true, "--store.caching-bucket.config": true,
	"--storage.tsdb.min-block-duration": true, "--storage.tsdb.max-block-duration": true,
}

func TestEveryFlagThatTheDocsNameExists(t *testing.T) {
	t.Parallel()
	h := &helps{text: map[string]string{}}
	var all strings.Builder
	for _, name := range append([]string{"prometheus"}, ownPrograms...) {
		all.WriteString(h.of(t, name))
	}
	all.WriteString(h.below(t, "promontory"))
	all.WriteString(h.of(t, "querier", "query-frontend"))
	for _, page := range operatorsPages(t) {
		for _, flag := range page.LoneFlags() {
			assert.True(t, has(all.String(), flag) || unlisted[flag], "%s: no program has the flag %s", page.Path, flag)
		}
	}
}

// requireDocumentedMetrics looks whether the operator's pages name only metrics that processes export.
func requireDocumentedMetrics(t *testing.T, known map[string]bool) {
	t.Helper()
	for _, page := range operatorsPages(t) {
		for _, name := range page.Metrics() {
			require.True(t, known[name], "%s: nothing exports %s", page.Path, name)
		}
	}
}
