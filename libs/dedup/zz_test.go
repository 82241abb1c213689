package dedup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestZZ(t *testing.T) {
	rnd := rand.New(rand.NewPCG(133007, 21))
	cfg := sceneConfig{hours: 0.5 + 1.7*rnd.Float64(), gauge: rnd.IntN(4) == 0, skew: rnd.IntN(3) == 0, jitter: rnd.IntN(2) == 0}
	s := newScene(t, rnd, cfg)
	got := mergeExact(t, s.chks)
	in := map[fsample]bool{}
	for _, x := range got {
		in[x] = true
	}
	type y struct {
		fsample
		r int
	}
	var all []y
	for r, l := range s.lists {
		for _, x := range l {
			all = append(all, y{x, r})
		}
	}
	slices.SortFunc(all, func(a, b y) int { return int(a.t - b.t) })
	for k := 1; k < len(all); k++ {
		if all[k].v < all[k-1].v {
			for j := max(0, k-6); j < min(len(all), k+8); j++ {
				fmt.Println("  ", (float64(all[j].t-sceneStart))/1000, "r", all[j].r, all[j].v, in[all[j].fsample])
			}
			fmt.Println()
		}
	}
	for _, c := range s.chks {
		var p piece
		p.describe(&c, c.Raw)
		fmt.Println((c.MinTime-sceneStart)/1000, (c.MaxTime-sceneStart)/1000, p.class, p.mean, p.phase)
	}
}
