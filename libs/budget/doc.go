// Package budget is the byte budget of a process: who wants to hold memory for a request asks first, and then waits, does with
// less, or is refused with the numbers.
//
// # How to use it
//
// Make one Budget per process and give it to whoever holds bytes on behalf of requests:
//
//	limit := budget.Share(budget.ProcessLimit(), fixedBytes) // or a flag
//	b := budget.New(limit, reg)
//
// A request has one Reservation from its first byte to its last. It takes what it needs before it can begin, and waits for it:
//
//	res, err := b.Acquire(ctx, estimate, "{job=\"api\"}") // who is to blame, in the words of the user
//	if err != nil {
//		return err // *Refusal, or what ended ctx
//	}
//	defer res.Release()
//
// What would only make it faster it asks for without waiting, and works in smaller steps if there is little:
//
//	batch := minBatch + res.GrowUpTo(0, maxBatch-minBatch)
//	...
//	res.Shrink(batch)
//
// What it finds out only later that it needs it asks for with Grow, which waits. Waiting while holding is what deadlocks are
// made of: as soon as all that is in use is held by those who wait to grow, one who asks is refused, so that it gives back what it
// has. Never ask for a second Reservation on behalf of a request that has one; share the first, it is safe for concurrent use.
//
// Bytes are counted, not allocated, and nothing is measured: count what a request holds, not what passes through. The budget is for what
// lives as long as a request. Caches have bounds of their own; take them off the limit with Share.
//
// # Who comes first
//
// Requests that grow come before new ones, and of those that grow the small ones first: they are soon done. New ones are served in the
// order in which they came, in two lanes: an eighth of the limit is kept for small requests (up to 1/16 of the limit each, unless they
// said MarkLarge; large ones that wait hold a quarter of it at most), so that they are answered while large ones hold or wait for the
// rest; and while a large one waits, new small ones use no more than that eighth, so that it is not passed over for ever. So no request
// can have more than 7/8 of the limit.
//
// When all that is held besides the small ones belongs to those who wait to grow, one of these is refused too: small ones come and go, and
// would hide it. Nobody waits until the deadline of the context: an eighth of the time is left to be told.
//
// # Refusals
//
// A *Refusal says what was needed, the limit, what was in use and who asked. It is a storeapi.ErrLimit, and a gRPC status of code
// ResourceExhausted. TooLarge says that it can never fit: do not try again. Otherwise others were in the way.
//
// # Several budgets
//
// Reads and writes of one process that must not starve each other get a Budget each. Tell their metrics apart by a label:
//
//	reads := budget.New(limit/4, prometheus.WrapRegistererWith(prometheus.Labels{"budget": "reads"}, reg))
//
// A nil *Budget has no limit, for tests and tools.
package budget
