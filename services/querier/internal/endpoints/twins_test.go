package endpoints

import (
	"errors"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestProducersWithEqualExternalLabelsAreWarnedAboutOnce(t *testing.T) {
	t.Parallel()
	a, b := labels.FromStrings("replica", "a"), labels.FromStrings("replica", "b")
	of := func(addr, component string, sets ...labels.Labels) Endpoint {
		return Endpoint{Addr: addr, ComponentType: component, LabelSets: sets}
	}
	down := of("down:1", ComponentSidecar, a)
	down.Err = errors.New("gone")
	sound := []Endpoint{
		of("s1:1", ComponentSidecar, a), of("s2:1", ComponentSidecar, b), down, of("nothing:1", ComponentSidecar),
		of("nothing:2", ComponentSidecar), of("g1:1", ComponentStore, a), of("g2:1", ComponentStore, a), of("q:1", ComponentQuery, a),
	}
	require.Empty(t, twins(sound))

	core, logs := observer.New(zap.WarnLevel)
	s := NewSet(DefaultConfig(), Deps{Logger: zap.New(core)})
	s.warnOfTwins(sound)
	require.Zero(t, logs.Len())
	bad := append(sound, of("s3:1", ComponentSidecar, a))
	for range 3 {
		s.warnOfTwins(bad)
	}
	require.Equal(t, 1, logs.Len())
	require.Equal(t, []any{"s1:1", "s3:1"}, logs.All()[0].ContextMap()["addresses"])
	require.Equal(t, `{replica="a"}`, logs.All()[0].ContextMap()["external_labels"])
	s.warnOfTwins(sound)
	s.warnOfTwins(bad)
	require.Equal(t, 2, logs.Len(), "they were apart in between")
}
