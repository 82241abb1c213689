package procstat_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/bench/internal/procstat"
)

func TestOwnProcess(t *testing.T) {
	before, err := procstat.CPU(os.Getpid())
	require.NoError(t, err)
	n := 0
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
		n++
	}
	require.Positive(t, n)
	after, err := procstat.CPU(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, after, before)
	require.Less(t, after-before, 10*time.Second)

	require.NoError(t, procstat.ResetPeak(os.Getpid()))
	low, err := procstat.PeakMemory(os.Getpid())
	require.NoError(t, err)
	const size = 64 << 20
	mem := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		mem[i] = byte(n)
	}
	high, err := procstat.PeakMemory(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, high-low, int64(size/2), "%d touched", mem[len(mem)-1])
}

func TestAProcessThatIsGoneIsNamed(t *testing.T) {
	_, err := procstat.CPU(1 << 30)
	require.ErrorContains(t, err, "1073741824")
}
