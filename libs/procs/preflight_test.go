package procs

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPreflightNamesEverythingThatIsInTheWay(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	free, err := FreeAddrs(1)
	require.NoError(t, err)
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))

	err = Preflight(
		Spec{Name: "querier", Binary: "/nowhere/querier", Source: "make build", Listen: []Address{{"HTTP", taken.Addr().String()}}},
		Spec{Name: "a", Binary: os.Args[0], Listen: []Address{{"HTTP", free[0]}, {"gRPC", free[0]}}},
		Spec{Name: "b", Binary: plain, Listen: []Address{{"HTTP", "127.0.0.1:notaport"}}},
		Spec{Name: "c", Binary: "/nowhere/querier"},
	)
	require.ErrorContains(t, err, "binary /nowhere/querier, wanted by querier, is not there (make build)")
	require.ErrorContains(t, err, "address "+taken.Addr().String()+", wanted by querier HTTP, is in use")
	require.ErrorContains(t, err, "address "+free[0]+" is wanted by both a HTTP and a gRPC")
	require.ErrorContains(t, err, "binary "+plain+", wanted by b, cannot be run: permission denied")
	require.ErrorContains(t, err, "wanted by b HTTP, cannot be listened on")
	require.NotContains(t, err.Error(), "wanted by c,", "one message for one missing binary")
}

func TestPreflightIsContentWithWhatCanStart(t *testing.T) {
	t.Parallel()
	free, err := FreeAddrs(2)
	require.NoError(t, err)
	require.NoError(t, Preflight(Spec{Name: "a", Binary: os.Args[0], Listen: []Address{{"HTTP", free[0]}, {"gRPC", free[1]}}}))
}

func TestHolderNamesTheProcessThatListens(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("needs /proc:", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	require.Contains(t, holder(listener.Addr().String()), "(pid "+strconv.Itoa(os.Getpid())+")")
	free, err := FreeAddrs(1)
	require.NoError(t, err)
	require.Empty(t, holder(free[0]))
}

func TestFreeAddrsAreDifferentAndFree(t *testing.T) {
	t.Parallel()
	addrs, err := FreeAddrs(50)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, addr := range addrs {
		require.False(t, seen[addr], addr)
		seen[addr] = true
		listener, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		require.NoError(t, listener.Close())
	}
}
