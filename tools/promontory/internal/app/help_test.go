package app

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// leaves calls f for each command that does something, with the words that call it.
func leaves(c *cobra.Command, f func(*cobra.Command)) {
	if !c.HasSubCommands() {
		f(c)
	}
	for _, sub := range c.Commands() {
		leaves(sub, f)
	}
}

func TestEveryCommandThereIsHasAnExampleThatCallsIt(t *testing.T) {
	t.Parallel()
	seen := 0
	leaves(NewCommand(), func(c *cobra.Command) {
		seen++
		require.NotEmpty(t, c.Short, c.CommandPath())
		require.Contains(t, c.Example, "promontory ", c.CommandPath())
		if c.Name() != "rules-check" { // the older words for check rules, whose examples it shows
			require.Contains(t, c.Example, " "+c.Name(), c.CommandPath())
		}
	})
	require.Greater(t, seen, 15)
}

func TestCompletionKnowsEveryShellAndTheCommands(t *testing.T) {
	t.Parallel()
	run := func(args ...string) string {
		var out bytes.Buffer
		root := NewCommand()
		root.SetOut(&out)
		root.SetArgs(args)
		require.NoError(t, root.ExecuteContext(t.Context()))
		return out.String()
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, run("completion", shell), "promontory", shell)
	}
	require.Contains(t, run("__complete", "qu"), "query")
	require.Contains(t, run("__complete", "bucket", "re"), "replicate")
}
