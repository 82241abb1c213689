// Package forward brings the series of a write to the nodes that own them, and tells what became of
// each.
//
// Series travel as the bytes they came in: for each node those it owns are copied into one message,
// and nothing is decoded but labels, once, for the hash. A node that is slow or gone costs its own
// replica: what waits for it is bounded in bytes, beyond which its replica counts as unavailable, and one
// that refuses is left alone for a while. It is asked again all the same, and waited for a little, as soon as the
// quorum of a series hangs on it: nodes that restart one after the other cost no write.
//
// A write is answered as soon as all its series are decided; messages still under way are not cut
// off, since their replicas are wanted.
package forward
