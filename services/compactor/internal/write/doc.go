// Package write makes a block in the bucket while it is being computed.
//
// Chunks go into a segment file in a scratch folder; a full segment is uploaded while the
// next one is being filled, and then removed, so that scratch holds two segments and the
// index of a block at a time, whatever its size. When all is uploaded the block is read
// back from the bucket and compared with what was written: numbers, time range, and the
// checksum of every series and chunk. Only then meta.json makes it visible.
//
// The life of a Block is New, Begin, Add for each series, Finish, Publish. Discard ends it
// at any point before Publish and removes what has been uploaded.
package write
