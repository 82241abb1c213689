package docs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const page = "# Title, with `code`\n\nSee [below](#a-part), [above](#title-with-code), [nothing](#nothing), [a file](other.md),\n" +
	"[its part](other.md#part), [no part](other.md#none), [no file](gone.md) and [elsewhere](https://example.org/gone).\n\n" +
	"Try `querier --a=1`, or `--b.c=2` alone, and look at `thanos_x_total`.\n\n" +
	"    k logs x-0 | grep x        # --comment=1\n" +
	"    querier --d \\\n      --e=3\n\n## A part\n"

func read(t *testing.T) *Page {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other.md"), []byte("# Other\n\n## Part\n"), 0o600))
	path := filepath.Join(dir, "page.md")
	require.NoError(t, os.WriteFile(path, []byte(page), 0o600))
	p, err := Read(path)
	require.NoError(t, err)
	return p
}

func TestLinksThatLeadNowhereAreFound(t *testing.T) {
	t.Parallel()
	broken, err := read(t).BrokenLinks()
	require.NoError(t, err)
	require.Equal(t, []string{"#nothing", "other.md#none", "gone.md"}, broken)
}

func TestCommandsFlagsAndMetricsAreFound(t *testing.T) {
	t.Parallel()
	p := read(t)
	require.Equal(t, []string{"querier --d --e=3", "querier --a=1"}, p.Commands("querier"))
	require.Equal(t, []string{"k logs x-0"}, p.Commands("k"))
	require.Equal(t, []string{"k logs x-0 | grep x        # --comment=1"}, p.Lines("k"))
	require.Equal(t, []string{"--d", "--e"}, Flags("querier --d --e=3"))
	require.Equal(t, []string{"--b.c"}, p.LoneFlags())
	require.Equal(t, []string{"thanos_x_total"}, p.Metrics())
}
