package dedup

import "slices"

// refSource is one input of the reference merge: a list of samples or a merge.
type refSource interface {
	// seek moves to the first sample at or after t and reports whether there is one.
	seek(t float64) bool
	at() (t, v float64)
	lift(v float64)
}

// refList is a replica. If rewinds is set it looks from the start of the list each
// time, as the lists did over which dedup.json was recorded; otherwise it only goes
// forward, as chunk iterators do.
type refList struct {
	samples [][2]float64
	rewinds bool
	i       int
	off     float64
}

func (l *refList) seek(t float64) bool {
	if l.rewinds {
		l.i = 0
	}
	for l.i < len(l.samples) && l.samples[l.i][0] < t {
		l.i++
	}
	return l.i < len(l.samples)
}

func (l *refList) at() (float64, float64) { return l.samples[l.i][0], l.samples[l.i][1] + l.off }

func (l *refList) lift(v float64) {
	if _, cur := l.at(); v > cur {
		l.off += v - cur
	}
}

// refMerge is the penalty merge, as plain as it can be said. Sides are 0 and 1.
type refMerge struct {
	side    [2]refSource
	has     [2]bool
	penalty [2]float64
	counter bool
	cur     int
	lastT   *float64
	begun   bool
}

func (m *refMerge) next() bool {
	from := -1e18
	if m.lastT != nil {
		from = *m.lastT + 1
	}
	if !m.begun {
		m.begun = true
		m.has = [2]bool{m.side[0].seek(from), m.side[1].seek(from)}
	}
	before, hadValue, lastV := m.cur, m.has[m.cur], 0.0
	if hadValue {
		_, lastV = m.side[m.cur].at()
	}
	for i := range m.side {
		m.has[i] = m.has[i] && m.side[i].seek(from+m.penalty[i])
	}
	switch {
	case m.has[0] && m.has[1]:
		t0, _ := m.side[0].at()
		t1, _ := m.side[1].at()
		m.cur = 0
		if t1 < t0 {
			m.cur = 1
		}
		m.penalty[1-m.cur] = 5000
		if m.lastT != nil {
			m.penalty[1-m.cur] = 2 * (min(t0, t1) - *m.lastT)
		}
	case m.has[0]:
		m.cur = 0
	case m.has[1]:
		m.cur = 1
	default:
		return false
	}
	m.penalty[m.cur] = 0
	t, _ := m.side[m.cur].at()
	m.lastT = &t
	if m.counter && hadValue && m.cur != before {
		m.lift(lastV)
	}
	return true
}

func (m *refMerge) lift(v float64) {
	for i := range m.side {
		if m.has[i] {
			m.side[i].lift(v)
		}
	}
}

func (m *refMerge) seek(t float64) bool {
	for m.lastT == nil || *m.lastT < t {
		if !m.next() {
			return false
		}
	}
	return true
}

func (m *refMerge) at() (float64, float64) { return m.side[m.cur].at() }

// refPenalty merges replicas from the left and returns all samples.
func refPenalty(replicas [][][2]float64, counter, rewinds bool) [][2]float64 {
	if len(replicas) == 1 {
		return slices.Clone(replicas[0])
	}
	var acc refSource = &refList{samples: replicas[0], rewinds: rewinds}
	for _, r := range replicas[1:] {
		acc = &refMerge{side: [2]refSource{acc, &refList{samples: r, rewinds: rewinds}}, counter: counter}
	}
	var out [][2]float64
	for m := acc.(*refMerge); m.next(); {
		t, v := m.at()
		out = append(out, [2]float64{t, v})
	}
	return out
}
