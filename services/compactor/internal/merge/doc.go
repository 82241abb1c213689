// Package merge makes one pass over any number of blocks of one group and hands out
// the merged series: the raw ones, and in the same pass the downsampled ones.
//
// Series are matched by symbol numbers that all sources share, so no label string is
// touched before a series is written. The chunks of one series, from all sources, are
// in memory at a time; nothing else grows with the data.
//
// Chunks that overlap no other are handed on as they lie in their block, undecoded.
// Identical ones are dropped. What overlaps is a stretch: its chunks are sorted into
// replicas, as many as are needed so that those of one replica do not overlap, and
// merged sample by sample with the deduplication function; penalty knows nothing of
// what was before the stretch. The samples of neighbouring stretches are packed into
// full chunks.
//
// Where downsampled blocks are wanted, the downsampler pulls the samples and the packer
// takes them down in passing, so that each sample is decoded once.
package merge
