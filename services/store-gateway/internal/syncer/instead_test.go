package syncer

import (
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

// numbered returns ULIDs out of small numbers.
func numbered(ns ...byte) (ids []ulid.ULID) {
	for _, n := range ns {
		ids = append(ids, ulid.ULID{15: n})
	}
	return ids
}

func TestSubstitutesAreWhatABrokenBlockWasMadeOf(t *testing.T) {
	t.Parallel()
	type other struct {
		id       byte
		sources  []byte
		state    fetch.State
		cluster  string
		res      int64
		isBroken bool
	}
	raw := func(id byte) other { return other{id: id, sources: []byte{id}, state: fetch.StateDuplicate} }
	for name, tc := range map[string]struct {
		others []other
		want   []byte
		whole  bool
	}{
		"nothing is left":           {nil, nil, false},
		"all of them":               {[]other{raw(1), raw(2), raw(3), raw(4)}, []byte{1, 2, 3, 4}, true},
		"one is gone":               {[]other{raw(1), raw(2), raw(4)}, []byte{1, 2, 4}, false},
		"they name no sources":      {[]other{{id: 1, state: fetch.StateDuplicate}, raw(2), raw(3), raw(4)}, []byte{1, 2, 3, 4}, true},
		"the largest of them":       {[]other{raw(1), raw(2), raw(3), raw(4), {id: 9, sources: []byte{1, 2}, state: fetch.StateDuplicate}}, []byte{3, 4, 9}, true},
		"the largest is broken too": {[]other{raw(1), raw(2), raw(3), raw(4), {id: 9, sources: []byte{1, 2}, state: fetch.StateDuplicate, isBroken: true}}, []byte{1, 2, 3, 4}, true},
		"its equal":                 {[]other{{id: 9, sources: []byte{1, 2, 3, 4}, state: fetch.StateDuplicate}}, []byte{9}, true},
		"marked for deletion":       {[]other{raw(1), raw(2), raw(3), {id: 4, sources: []byte{4}, state: fetch.StateMarkedForDeletion}}, []byte{1, 2, 3, 4}, true},
		"of another shard":          {[]other{raw(1), raw(2), raw(3), {id: 4, sources: []byte{4}, state: fetch.StateLabelExcluded}}, []byte{1, 2, 3}, false},
		"of another producer":       {[]other{raw(1), raw(2), raw(3), {id: 4, sources: []byte{4}, state: fetch.StateDuplicate, cluster: "us1"}}, []byte{1, 2, 3}, false},
		"of another resolution":     {[]other{raw(1), raw(2), raw(3), {id: 4, sources: []byte{4}, state: fetch.StateDuplicate, res: 300_000}}, []byte{1, 2, 3}, false},
		"with foreign data":         {[]other{raw(1), raw(2), {id: 4, sources: []byte{3, 4, 5}, state: fetch.StateDuplicate}}, []byte{1, 2}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meta := func(o other) *block.Meta {
				if o.cluster == "" {
					o.cluster = "eu1"
				}
				m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: numbered(o.id)[0]}}
				m.Compaction.Sources = numbered(o.sources...)
				m.Thanos.Labels = map[string]string{"cluster": o.cluster}
				m.Thanos.Downsample.Resolution = o.res
				return m
			}
			res := &fetch.Result{All: map[ulid.ULID]*block.Meta{}, Excluded: map[ulid.ULID]fetch.State{}}
			broken := map[ulid.ULID]bool{}
			for _, o := range tc.others {
				m := meta(o)
				res.All[m.ULID], res.Excluded[m.ULID], broken[m.ULID] = m, o.state, o.isBroken
			}
			parts, whole := substitutes(res, meta(other{id: 100, sources: []byte{1, 2, 3, 4}}), func(id ulid.ULID) bool { return broken[id] })
			var got []ulid.ULID
			for _, p := range parts {
				got = append(got, p.ULID)
			}
			require.Equal(t, numbered(tc.want...), got)
			require.Equal(t, tc.whole, whole)
		})
	}
}
