package harness

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Output runs one of our programs to its end and returns what it has printed and its exit code. It fails the test
// when the program does not end in time.
func Output(t testing.TB, program string, args ...string) (text string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, Binary(t, program), args...).CombinedOutput()
	require.NoError(t, ctx.Err(), "%s %v does not end; it has printed:\n%s", program, args, out)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	}
	require.NoError(t, err, "%s %v", program, args)
	return string(out), 0
}
