// Package block knows what a block in object storage is: the names of its
// objects, its meta.json, its markers, and the orders in which a block is
// uploaded, downloaded and deleted so that it is visible only when whole.
//
// A block is a folder named by a ULID:
//
//	<ULID>/chunks/000001 …          TSDB chunk segments
//	<ULID>/index                    TSDB index, version 1 or 2
//	<ULID>/meta.json                uploaded last, deleted first
//	<ULID>/deletion-mark.json       optional, deleted last
//	<ULID>/no-compact-mark.json     optional
//	<ULID>/no-downsample-mark.json  optional
//
// The presence of meta.json means that everything else is there. All functions
// work over an objstore.Bucket, keep no state and may be called concurrently for
// different blocks; two writers of one block must be kept apart by the caller.
//
// Block times are Unix milliseconds, MinTime inclusive and MaxTime exclusive;
// marker times are Unix seconds; upload_time is RFC 3339.
package block
