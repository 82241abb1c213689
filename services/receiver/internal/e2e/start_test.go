package e2e

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestANodeIsWritableSoonWhateverItsLogHolds fills a log, kills the node, and writes to it while it replays.
// PROMONTORY_E2E_SERIES makes the log longer.
func TestANodeIsWritableSoonWhateverItsLogHolds(t *testing.T) {
	_ = howLong(t)
	total := 100_000
	if s := os.Getenv("PROMONTORY_E2E_SERIES"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		total = n
	}
	c := start(t, 1, 1)
	n := c.ingesters[0]
	url := "http://" + n.write + "/api/v1/receive"
	l := newLoad(total, 5000)
	o := &outcome{answers: map[int]int{}}
	at := time.Now().Add(-10 * time.Minute).UnixMilli()
	round := func() {
		for from := 0; from < len(l.labels); from += l.perRequest {
			l.until(url, l.body(from, at), o)
		}
		o.rounds = append(o.rounds, at)
		at += 15_000
	}
	for range 5 {
		round()
	}
	n.Kill()

	begin := time.Now()
	up := make(chan error, 1)
	go func() { up <- n.Start(t.Context()) }()
	probe := newLoad(1, 1)
	probe.labels = l.labels[:1]
	took := time.Duration(0)
	for took == 0 {
		if code, _ := probe.post(t.Context(), url, probe.body(0, at)); code == http.StatusNoContent {
			took = time.Since(begin)
		}
	}
	require.NoError(t, <-up)
	replaying := metric(t, n, "promontory_receiver_tenants_replaying")
	round() // goes to the journal where the replay is not done
	require.Eventually(t, func() bool { return metric(t, n, "promontory_receiver_tenants_replaying") == 0 }, 2*time.Minute, 20*time.Millisecond)
	t.Logf("first write after %s, replay of %d series done after %s (replaying at the first write: %v)", took, total, time.Since(begin), replaying > 0)
	require.Less(t, took, 5*time.Second) // two seconds on a machine with nothing else to do
	require.Zero(t, l.lost(t, o, found(t, n)))
	require.False(t, strings.Contains(o.firstBad, "503"), o.firstBad)
}
