package peers_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/ruler/internal/peers"
)

func TestARecordKnowsHowServersWereTheLastTimes(t *testing.T) {
	t.Parallel()
	var r peers.Record
	at := time.Unix(1, 0)
	r.Note("b", at, errors.New("x"))
	r.Note("b", at.Add(time.Second), errors.New("y"))
	r.Note("b", at.Add(time.Minute), nil)
	r.Note("gone", at, nil)
	require.Equal(t, []peers.Contact{
		{Address: "a"},
		{Address: "b", LastSuccess: at.Add(time.Minute), LastFailure: at.Add(time.Second), LastError: "y"},
	}, r.List([]string{"b", "a", "b"}))
}
