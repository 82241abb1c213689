// Package ship uploads the blocks of a local TSDB to a bucket as they appear.
//
// A Shipper owns two things in the TSDB's folder: a state file that lists the blocks
// known to be in the bucket, which Prometheus reads too to hold back its compaction,
// and a staging folder of hard links, so that the TSDB may delete a block while it
// is sent. Both can be lost at any moment: what counts is the bucket, and a sync
// after any crash comes to the same end.
package ship
