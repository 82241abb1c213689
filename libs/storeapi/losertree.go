package storeapi

// loserTree finds the smallest of n cursors in log2(n) comparisons a step.
//
// Node 0 holds the winner, nodes 1 to n-1 the loser of the match played there;
// leaf i plays its first match at node (i+n)/2. Leaves that ended lose every
// match.
//
// Source: Knuth, The Art of Computer Programming 3, 5.4.1.
type loserTree struct {
	nodes []int32
	less  func(a, b int) bool // reports whether leaf a comes before leaf b; only asked for leaves that have not ended
	ended []bool
	alive int
}

// newLoserTree plays the first round. ended says which leaves have nothing at all.
func newLoserTree(ended []bool, less func(a, b int) bool) *loserTree {
	n := len(ended)
	t := &loserTree{nodes: make([]int32, max(n, 1)), less: less, ended: ended}
	for _, e := range ended {
		if !e {
			t.alive++
		}
	}
	if n > 0 {
		t.nodes[0] = t.play(1)
	}
	return t
}

// play returns the winner below node and records the losers.
func (t *loserTree) play(node int) int32 {
	n := len(t.ended)
	if node >= n {
		return int32(node - n)
	}
	a, b := t.play(2*node), t.play(2*node+1)
	if t.beats(b, a) {
		a, b = b, a
	}
	t.nodes[node] = b
	return a
}

func (t *loserTree) beats(a, b int32) bool {
	if t.ended[a] {
		return false
	}
	return t.ended[b] || t.less(int(a), int(b))
}

// winner is the leaf with the smallest value; false when all have ended.
func (t *loserTree) winner() (int, bool) {
	if t.alive == 0 {
		return 0, false
	}
	return int(t.nodes[0]), true
}

// fix replays the winner's matches after its leaf moved on, or ended.
func (t *loserTree) fix(end bool) {
	w := t.nodes[0]
	if end {
		t.ended[w] = true
		t.alive--
	}
	for node := (int(w) + len(t.ended)) / 2; node > 0; node /= 2 {
		if t.beats(t.nodes[node], w) {
			t.nodes[node], w = w, t.nodes[node]
		}
	}
	t.nodes[0] = w
}
