package bucket

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program writes a shell script to stand in for another program.
func program(t *testing.T, text string) func() (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700)) //nolint:gosec // it is to be run
	return func() (string, error) { return path, nil }
}

func runWeb(ctx context.Context, find func() (string, error), args ...string) (string, error) {
	var out bytes.Buffer
	cmd := newWeb(find)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func TestWebPassesEveryFlagToTheProgramThatServesThePages(t *testing.T) {
	t.Parallel()
	out, err := runWeb(t.Context(), program(t, `printf '%s|' "$@"`), "--objstore.config=type: X", "--label", "a b", "--no-web.disable-cors")
	require.NoError(t, err)
	require.Equal(t, "--objstore.config=type: X|--label|a b|--no-web.disable-cors|", out)
}

func TestWebEndsAsTheProgramDoes(t *testing.T) {
	t.Parallel()
	_, err := runWeb(t.Context(), program(t, "exit 3"))
	var coded interface{ ExitCode() int }
	require.ErrorAs(t, err, &coded)
	require.Equal(t, 3, coded.ExitCode())
	_, err = runWeb(t.Context(), func() (string, error) { return "", errors.New("not there") })
	require.ErrorContains(t, err, "not there")
}

func TestWebTellsTheProgramToEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := filepath.Join(t.TempDir(), "started")
	find := program(t, `trap 'echo ended; exit 0' TERM; : > `+started+`; while :; do sleep 0.05; done`)
	type outcome struct {
		out string
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		out, err := runWeb(ctx, find)
		done <- outcome{out, err}
	}()
	require.Eventually(t, func() bool {
		_, err := os.Stat(started)
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	got := <-done
	require.NoError(t, got.err)
	require.Contains(t, got.out, "ended")
}

func TestWebHelpNeedsNoProgram(t *testing.T) {
	t.Parallel()
	out, err := runWeb(t.Context(), func() (string, error) { return "", errors.New("not there") }, "--help")
	require.NoError(t, err)
	require.Contains(t, out, "--disable-admin-operations")
	require.Contains(t, out, "Examples:")
}
