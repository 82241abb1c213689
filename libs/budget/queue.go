package budget

// waiter is somebody who waits for bytes.
type waiter struct {
	r          *Reservation
	bytes      int64
	q          *queue
	prev, next *waiter
	// done is closed when it was granted, or refused with err.
	done chan struct{}
	err  error
}

// queue is a list of waiters, first come first.
type queue struct {
	first, last *waiter
	n           int
}

func (q *queue) push(w *waiter) {
	w.q, w.prev = q, q.last
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.n++
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.q, w.prev, w.next = nil, nil, nil
	q.n--
}

// isSmall says whether somebody who holds so much goes with the small ones.
func (b *Budget) isSmall(held int64) bool { return held <= b.limit/smallShare }

// small says whether r goes with the small ones when it holds so much. b.mu is held.
func (b *Budget) small(r *Reservation, held int64) bool { return !r.large && b.isSmall(held) }

// add changes what r holds. b.mu is held.
func (b *Budget) add(r *Reservation, bytes int64) {
	if b.small(r, r.held) {
		b.smallUsed -= r.held
	}
	b.used += bytes
	r.held += bytes
	if b.small(r, r.held) {
		b.smallUsed += r.held
	}
	if r.waiting > 0 {
		b.stuck += bytes
	}
}

// fits says whether r can have so many more bytes now, whoever waits. b.mu is held.
func (b *Budget) fits(r *Reservation, bytes int64) bool {
	if b.used+bytes > b.limit {
		return false
	}
	if b.small(r, r.held+bytes) {
		// A small one that has begun is soon done, and what it holds comes back.
		return r.held > 0 || b.larges.n == 0 || b.smallUsed+bytes <= b.limit/reservedShare
	}
	return b.besidesSmall(r)+bytes <= b.Largest()
}

// besidesSmall is what r and all that are not small hold. b.mu is held.
func (b *Budget) besidesSmall(r *Reservation) int64 {
	n := b.used - b.smallUsed
	if b.small(r, r.held) {
		n += r.held
	}
	return n
}

// busy says whether somebody waits before whom r must not be served. b.mu is held.
func (b *Budget) busy(r *Reservation, bytes int64) bool {
	if b.small(r, r.held+bytes) && b.smallUsed+bytes <= b.limit/reservedShare {
		// What is kept for small ones is nobody else's.
		return b.smalls.n > 0 && r.held == 0
	}
	switch {
	case b.growing.n+b.smallGrowing.n > 0:
		return true
	case r.held > 0:
		return b.smalls.n+b.larges.n > 0
	case b.small(r, bytes):
		return b.smalls.n > 0
	default:
		return b.larges.n > 0
	}
}

// enqueue grants at once (nil, nil), refuses (nil, error) or puts the request in line.
func (b *Budget) enqueue(r *Reservation, bytes int64) (*waiter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.held+bytes > b.Largest() {
		return nil, b.refuse(r, bytes, TooLarge, 0)
	}
	grows := r.held > 0
	// One who grows passes new ones: it is the sooner done.
	if b.fits(r, bytes) && (grows && b.first(r, bytes) || !b.busy(r, bytes)) {
		b.add(r, bytes)
		b.metrics.admitted.Inc()
		return nil, nil
	}
	w := &waiter{r: r, bytes: bytes, done: make(chan struct{})}
	switch {
	case grows:
		stuck := b.stuck
		if r.waiting == 0 {
			stuck += r.held
		}
		if stuck >= b.used {
			return nil, b.refuse(r, bytes, Deadlock, 0)
		}
		if b.small(r, r.held+bytes) {
			b.smallGrowing.push(w)
		} else {
			b.growing.push(w)
		}
		b.stuck = stuck
		r.waiting++
		if b.wedged() {
			b.breakDeadlock()
		}
		if w.q == nil {
			return nil, w.err
		}
	case b.small(r, bytes):
		b.smalls.push(w)
	default:
		b.larges.push(w)
	}
	return w, nil
}

// first says whether no other request that grows comes before r. b.mu is held.
func (b *Budget) first(r *Reservation, bytes int64) bool {
	return b.smallGrowing.n == 0 && (b.growing.n == 0 || b.small(r, r.held+bytes))
}

// unwait takes w out of its line. b.mu is held.
func (b *Budget) unwait(w *waiter) {
	if w.q == &b.growing || w.q == &b.smallGrowing {
		if w.r.waiting--; w.r.waiting == 0 {
			b.stuck -= w.r.held
		}
	}
	w.q.remove(w)
}

// leave takes w out of its line; false when it was served before.
func (b *Budget) leave(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.q == nil {
		return false
	}
	b.unwait(w)
	b.grant() // those behind it may fit
	return true
}

// grant serves who can be served. b.mu is held.
func (b *Budget) grant() {
	for w := b.nextGrowing(); w != nil; w = b.nextGrowing() {
		if !b.fits(w.r, w.bytes) {
			if !b.breakDeadlock() {
				b.grantSmall()
				return
			}
			continue
		}
		b.serve(w, nil)
	}
	for b.larges.n > 0 && b.fits(b.larges.first.r, b.larges.first.bytes) {
		b.serve(b.larges.first, nil)
	}
	for b.smalls.n > 0 && b.fits(b.smalls.first.r, b.smalls.first.bytes) {
		b.serve(b.smalls.first, nil)
	}
}

// nextGrowing is who grows next: the small ones first, for they are soon done. b.mu is held.
func (b *Budget) nextGrowing() *waiter {
	for w := b.smallGrowing.first; w != nil; w = b.smallGrowing.first {
		if b.small(w.r, w.r.held+w.bytes) {
			return w
		}
		// It has become large while it waited.
		b.smallGrowing.remove(w)
		b.growing.push(w)
	}
	return b.growing.first
}

// grantSmall serves small requests from what is kept for them, whoever else waits. b.mu is held.
func (b *Budget) grantSmall() {
	for b.smalls.n > 0 && b.smallGrowing.n == 0 {
		w := b.smalls.first
		if b.smallUsed+w.bytes > b.limit/reservedShare || b.used+w.bytes > b.limit {
			return
		}
		b.serve(w, nil)
	}
}

// breakDeadlock refuses the last of those who wait to grow where nobody else holds anything: who gave back last may have been the
// only one who did not wait. It reports whether somebody was refused. b.mu is held.
func (b *Budget) breakDeadlock() bool {
	if b.stuck < b.used && !b.wedged() {
		return false
	}
	w := b.growing.last
	if w == nil {
		w = b.smallGrowing.last
	}
	b.serve(w, b.refuse(w.r, w.bytes, Deadlock, 0))
	// It is expected to release now; until it has, what it holds is not stuck.
	return true
}

// wedged says whether all requests that are not small wait for more, and the first of them would not fit if all small ones were
// done: small ones come and go, and would hide for ever that nothing else moves. b.mu is held.
func (b *Budget) wedged() bool {
	w := b.growing.first
	if w == nil || b.besidesSmall(w.r)+w.bytes <= b.Largest() {
		return false
	}
	b.round++
	var held int64
	for ; w != nil; w = w.next {
		if w.r.round != b.round && !b.small(w.r, w.r.held) {
			held += w.r.held
		}
		w.r.round = b.round
	}
	return held >= b.used-b.smallUsed
}

// serve ends w's waiting. b.mu is held.
func (b *Budget) serve(w *waiter, err error) {
	b.unwait(w)
	if err == nil {
		b.add(w.r, w.bytes)
		b.metrics.admitted.Inc()
	}
	w.err = err
	close(w.done)
}
