// Package storeapi is both ends of the Store API: the server side that encodes
// label sets and chunks straight into pooled frames, and the client side that
// decodes frames without copying chunk data, merges sorted streams and keeps
// their order honest.
//
// # Central ideas
//
// A sample is decoded only by whoever needs its value. Chunks therefore travel
// as bytes from the block to the PromQL iterator: a server copies them once into
// a frame, a client keeps slices into the frame it received.
//
// One frame is one allocation. A received frame is copied once out of the
// transport's buffers into memory of its own; the series decoded from it alias
// that memory, and the garbage collector frees it with the last chunk in use.
// Nobody returns it to a pool, so nobody can read a frame that was filled anew.
//
// Streams are sorted by label set after external labels are added and replica
// labels removed. [Orderer] keeps a server's stream sorted without holding it,
// [Merge] refuses a stream that is not.
//
// The wire is that of package thanos, see proto/thanos.
package storeapi
