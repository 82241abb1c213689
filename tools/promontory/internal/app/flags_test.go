package app

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Every flag of the recorded list exists in our command of the same words, with the same short form and default.
func TestEveryRecordedFlagExists(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/flags.tsv")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	root := NewCommand()
	commands := map[string]bool{}
	seen := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, spelled, _ := strings.Cut(lines.Text(), "\t")
		if !strings.Contains(spelled, "--") || strings.HasSuffix(spelled, ").") {
			continue // a piece of the help text
		}
		c, rest, err := root.Find(strings.Fields(name))
		require.NoError(t, err)
		require.Empty(t, rest, "there is no command %q", name)
		require.True(t, c.Runnable(), name)
		c.InitDefaultHelpFlag()
		c.InitDefaultVersionFlag()
		commands[name] = true
		seen++
		short, long, both := strings.Cut(spelled, ", ")
		if !both {
			short, long = "", spelled
		}
		long, value, _ := strings.Cut(strings.TrimPrefix(long, "--"), "=")
		long = strings.TrimPrefix(long, "[no-]")
		f := c.Flags().Lookup(long)
		require.NotNil(t, f, "%s has no --%s", name, long)
		if short != "" {
			require.Equal(t, strings.TrimPrefix(short, "-"), f.Shorthand, "%s --%s", name, long)
		}
		checkDefault(t, name, f, value)
	}
	require.Len(t, commands, 12)
	require.Greater(t, seen, 200)
}

// checkDefault compares a default as the recorded list spells it; a placeholder is none.
func checkDefault(t *testing.T, command string, f *pflag.Flag, value string) {
	t.Helper()
	list := strings.HasSuffix(value, "...")
	value = strings.Trim(strings.TrimSuffix(value, "..."), `"`)
	placeholder := value == "" || value == strings.ToUpper(value) && value != "FROM" && !strings.ContainsAny(value, "0123456789") || strings.ContainsAny(value, "<")
	if placeholder || f.Name == "label" {
		return
	}
	got := f.DefValue
	if list {
		require.Contains(t, got, value, "%s --%s", command, f.Name)
		return
	}
	want, wantErr := flags.ParseDuration(value)
	have, haveErr := flags.ParseDuration(got)
	if wantErr == nil && haveErr == nil {
		require.Equal(t, want, have, "%s --%s", command, f.Name)
		return
	}
	require.Equal(t, value, strings.Trim(got, `"`), "%s --%s", command, f.Name)
}
