package verdict

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestFailuresSurviveTheHop(t *testing.T) {
	t.Parallel()
	fs := []Failure{
		{Series: 0, Kind: Conflict, Floats: 2, Reason: "out of order"},
		{Series: 300, Kind: Invalid, Histograms: 1, Exemplars: 700},
	}
	got, ok, err := FromDetails(Details(fs), 301)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, fs, got)

	_, _, err = FromDetails(Details(fs), 300)
	require.ErrorContains(t, err, "series 300 of 300")
	_, ok, err = FromDetails(&anypb.Any{TypeUrl: "other"}, 1)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestMessagesExplainTheFirstAndCountTheRest(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a; b; and 1 more series", Explain([]Failure{{Reason: "a"}, {Reason: "b"}, {}}))
	require.Equal(t, "2 series failed", Explain([]Failure{{}, {}}))
	require.Equal(t, Unavailable, (&Error{Failures: []Failure{{Kind: Conflict}, {Kind: Unavailable}, {Kind: Limit}}}).Worst())
}

func FuzzFromDetails(f *testing.F) {
	f.Add(Details([]Failure{{Series: 1, Kind: Limit, Reason: "x"}}).GetValue())
	f.Fuzz(func(t *testing.T, data []byte) {
		fs, _, err := FromDetails(&anypb.Any{TypeUrl: TypeURL, Value: data}, 10)
		for _, one := range fs {
			if err == nil && (one.Series >= 10 || one.Kind > Unavailable) {
				t.Fatalf("%+v", one)
			}
		}
	})
}
