package quorum

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

const (
	ok  = verdict.OK
	inv = verdict.Invalid
	con = verdict.Conflict
	lim = verdict.Limit
	una = verdict.Unavailable
)

func TestHowManyAreNeeded(t *testing.T) {
	t.Parallel()
	for replicas, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4} {
		require.Equal(t, want, Needed(replicas), "%d replicas", replicas)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		replicas int
		answers  []verdict.Kind
		want     verdict.Kind
		after    int // answers that decide
	}{
		{1, []verdict.Kind{ok}, ok, 1},
		{1, []verdict.Kind{con}, con, 1},
		{2, []verdict.Kind{una, ok}, ok, 2},
		{2, []verdict.Kind{ok, una}, ok, 1},
		{2, []verdict.Kind{con, una}, una, 2},
		{2, []verdict.Kind{con, con}, con, 2},
		{3, []verdict.Kind{ok, ok, una}, ok, 2},
		{3, []verdict.Kind{una, ok, ok}, ok, 3},
		{3, []verdict.Kind{con, con, ok}, con, 2},
		{3, []verdict.Kind{inv, con, ok}, con, 2},
		{3, []verdict.Kind{inv, inv, ok}, inv, 2},
		{3, []verdict.Kind{lim, lim, ok}, lim, 2},
		{3, []verdict.Kind{una, una, ok}, una, 2},
		{3, []verdict.Kind{con, una, con}, con, 3},
		{3, []verdict.Kind{con, una, una}, una, 3},
		{3, []verdict.Kind{con, una, lim}, una, 3},
		{3, []verdict.Kind{con, una, ok}, una, 3},
		{5, []verdict.Kind{con, con, ok, ok, ok}, ok, 5},
		{5, []verdict.Kind{una, una, una, ok, ok}, una, 3},
	} {
		tally := New(1, c.replicas, Needed(c.replicas))
		for i, a := range c.answers {
			require.Equal(t, i >= c.after, tally.Decided(), "%v before answer %d", c, i)
			tally.Add(0, a)
		}
		require.True(t, tally.Decided(), "%v", c)
		require.Equal(t, c.want, tally.Outcome(0), "%v", c)
	}
}

func TestADecisionNeverChanges(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		replicas := 1 + rnd.IntN(7)
		tally := New(1, replicas, Needed(replicas))
		successes := 0
		var first string
		for range replicas {
			k := verdict.Kind(rnd.IntN(verdict.Kinds))
			if k == ok {
				successes++
			}
			tally.Add(0, k)
			if tally.Decided() {
				now := fmt.Sprint(tally.Outcome(0))
				if first == "" {
					first = now
				}
				require.Equal(t, first, now)
			}
		}
		require.True(t, tally.Decided(), "all have answered")
		require.Equal(t, successes >= Needed(replicas), tally.Outcome(0) == ok)
	}
}

func TestEachSeriesIsDecidedOnItsOwn(t *testing.T) {
	t.Parallel()
	tally := New(3, 3, 2)
	tally.Settle(2, inv)
	for range 2 {
		tally.Add(0, ok)
		require.False(t, tally.Decided())
		tally.Add(1, una)
	}
	require.True(t, tally.Decided())
	require.Equal(t, []verdict.Kind{ok, una, inv}, []verdict.Kind{tally.Outcome(0), tally.Outcome(1), tally.Outcome(2)})
}

func TestAHeldReplicaIsNeededOnceTheOthersCannotDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		replicas, held int
		answers        []verdict.Kind
		want           bool
	}{
		{1, 1, nil, true},
		{2, 1, nil, false},
		{2, 2, nil, true},
		{2, 1, []verdict.Kind{una}, true},
		{2, 1, []verdict.Kind{ok}, false},
		{3, 0, []verdict.Kind{una, una}, false},
		{3, 1, nil, false},
		{3, 1, []verdict.Kind{ok}, false},
		{3, 1, []verdict.Kind{ok, ok}, false},
		{3, 1, []verdict.Kind{ok, una}, true},
		{3, 1, []verdict.Kind{con, ok}, true},
		{3, 1, []verdict.Kind{con, con}, false},
		{3, 2, nil, true},
		{3, 2, []verdict.Kind{ok}, true},
		{5, 2, []verdict.Kind{ok}, false},
		{5, 2, []verdict.Kind{ok, lim}, true},
	} {
		tally := New(1, c.replicas, Needed(c.replicas))
		for range c.held {
			tally.Hold(0)
		}
		for _, a := range c.answers {
			tally.Add(0, a)
		}
		require.Equal(t, c.want, tally.Needs(0), "%+v", c)
		for range c.held {
			tally.Release(0)
		}
		require.False(t, tally.Needs(0), "%+v: it is awaited again", c)
	}
}

// A write is never left open: when all replicas that are not held have answered, it is decided or one of those
// held is needed.
func TestAllAnswersAndNoNeedIsADecision(t *testing.T) {
	t.Parallel()
	kinds := []verdict.Kind{ok, inv, con, lim, una}
	for range 20_000 {
		replicas := 1 + rand.IntN(5)
		tally := New(1, replicas, Needed(replicas))
		for range replicas {
			if rand.IntN(3) == 0 {
				tally.Hold(0)
			} else {
				tally.Add(0, kinds[rand.IntN(len(kinds))])
			}
		}
		require.True(t, tally.Decided() || tally.Needs(0))
	}
}
