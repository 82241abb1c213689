package gaps

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

var start = time.Unix(1_700_000_000, 0).UTC()

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func rule(name string) Rule {
	return Rule{File: "f", Group: "g", Name: name, Type: Recording, Query: "up", Labels: labels.FromStrings("a", "b"), Interval: 60}
}

func spans(l *Log) (out []Span) {
	for _, g := range l.List() {
		out = append(out, g.Span)
	}
	return out
}

func TestEvaluationsWithoutResultAreGapsAlsoThoseThatNeverWere(t *testing.T) {
	t.Parallel()
	l, err := Open("", zap.NewNop())
	require.NoError(t, err)
	require.Zero(t, l.Note(rule("r"), at(0), nil))
	require.Equal(t, 1, l.Note(rule("r"), at(1), errors.New("x")))
	require.Equal(t, 1, l.Note(rule("r"), at(2), errors.New("y")))
	require.Zero(t, l.Note(rule("r"), at(3), nil))
	require.Equal(t, 2, l.Note(rule("r"), at(6), nil), "4 and 5 were not made")
	require.Equal(t, 1, l.Note(rule("r"), at(7), errors.New("z")))
	require.Equal(t, []Span{
		{at(1), at(2), 2, "y"},
		{at(4), at(5), 2, reasonLate},
		{at(7), at(7), 1, "z"},
	}, spans(l))
}

func TestAChangedIntervalIsNoGap(t *testing.T) {
	t.Parallel()
	l, err := Open("", zap.NewNop())
	require.NoError(t, err)
	r := rule("r")
	l.Note(r, at(0), nil)
	r.Interval = 10
	require.Zero(t, l.Note(r, at(1), nil))
	require.Equal(t, 1, l.Note(r, at(1).Add(20*time.Second), nil))
}

func TestGapsOutliveTheProcessAndItsAbsenceIsOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", FileName)
	l, err := Open(path, zap.NewNop())
	require.NoError(t, err)
	l.Note(rule("r"), at(0), nil)
	l.Note(rule("r"), at(1), errors.New("x"))
	l.Note(rule("gone"), at(1), nil)
	require.NoError(t, l.Save(at(1)))

	l, err = Open(path, zap.NewNop())
	require.NoError(t, err)
	l.Keep(func(r Rule) bool { return r.Name != "gone" })
	require.Equal(t, 8, l.Note(rule("r"), at(10), nil))
	require.Zero(t, l.Note(rule("gone"), at(10), nil), "it was not to be evaluated")
	require.Equal(t, []Span{{at(1), at(9), 9, reasonAway}}, spans(l), "what nobody has seen goes on where a gap was")
	require.Equal(t, "up", l.List()[0].Query)
	require.NoError(t, l.Save(at(10)))

	// A month later nobody will fill it any more.
	l, err = Open(path, zap.NewNop())
	require.NoError(t, err)
	require.Len(t, l.List(), 1)
	l.Note(rule("r"), at(11), nil)
	require.NoError(t, l.Save(at(10).Add(keepFor)))
	require.Empty(t, l.List())
}

func TestGapsThatAreFilledAreForgotten(t *testing.T) {
	t.Parallel()
	l, err := Open("", zap.NewNop())
	require.NoError(t, err)
	for _, m := range []int{1, 3, 5} {
		l.Note(rule("r"), at(m), errors.New("x"))
		l.Note(rule("r"), at(m+1), nil)
	}
	l.Note(rule("r"), at(7), errors.New("x"))
	list := l.List()
	require.Len(t, list, 4)
	require.Equal(t, 2, l.Filled([]Gap{list[0], list[2]}))
	require.Equal(t, 0, l.Filled([]Gap{list[0]}))
	l.Note(rule("r"), at(8), errors.New("x"))
	require.Equal(t, []Span{{at(3), at(3), 1, "x"}, {at(7), at(8), 2, "x"}}, spans(l), "one that grew meanwhile stays")
	require.Equal(t, 0, l.Filled([]Gap{list[3]}))
	require.Equal(t, 1, l.Filled([]Gap{l.List()[1]}))
	l.Note(rule("r"), at(9), errors.New("x"))
	require.Equal(t, []Span{{at(3), at(3), 1, "x"}, {at(9), at(9), 1, "x"}}, spans(l))
}

func TestOnlySoManyGapsOfARuleAreKept(t *testing.T) {
	t.Parallel()
	l, err := Open("", zap.NewNop())
	require.NoError(t, err)
	for m := range 3 * maxGaps {
		var err error
		if m%2 == 0 {
			err = errors.New("x")
		}
		l.Note(rule("r"), at(m), err)
	}
	require.Len(t, l.List(), maxGaps)
	require.Equal(t, at(3*maxGaps-2), l.List()[maxGaps-1].Start)
}

func TestAFileThatCannotBeReadIsSetAside(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"{", `{"version": 2}`} {
		path := filepath.Join(t.TempDir(), FileName)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := Open(path, zap.NewNop())
		require.NoError(t, err)
		require.FileExists(t, path+".unreadable")
	}
}
