package plan

import "github.com/oklog/ulid/v2"

// Awaited are the compaction sources of blocks that jobs to come will downsample, by
// the resolution that these jobs read. The zero value is none.
type Awaited map[int64]map[ulid.ULID]bool

// NewAwaited looks through rounds of plans, as Simulate returns them.
func NewAwaited(rounds []Plan) Awaited {
	out := Awaited{}
	for _, r := range rounds {
		for i := range r.Jobs {
			j := &r.Jobs[i]
			coarser := false
			for _, t := range j.Targets {
				coarser = coarser || t > j.Resolution
			}
			if !coarser {
				continue
			}
			if out[j.Resolution] == nil {
				out[j.Resolution] = map[ulid.ULID]bool{}
			}
			for _, b := range j.Sources {
				for _, s := range b.Meta.Compaction.Sources {
					out[j.Resolution][s] = true
				}
			}
		}
	}
	return out
}

// Has reports whether some of what b was made of will be downsampled, alone or after it has been
// merged with others.
func (a Awaited) Has(b *Block) bool {
	of := a[b.Meta.Thanos.Downsample.Resolution]
	for _, s := range b.Meta.Compaction.Sources {
		if of[s] {
			return true
		}
	}
	return false
}
