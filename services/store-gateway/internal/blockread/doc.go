// Package blockread reads one block out of the bucket: from matchers to postings, from
// postings to series entries, from those to chunks.
//
// Everything goes in batches, each made while the one before is being sent, so that
// the memory of a request follows from the size of a batch and not from that of the answer. Label
// sets get their external labels, and lose the removed ones, as soon as they are
// decoded; they are put in order, cut by shard and limit, before any chunk is read.
//
// Checksums of postings, series entries and chunks are verified. Errors tell the
// block's own trouble, see [Broken], from the bucket's.
package blockread
