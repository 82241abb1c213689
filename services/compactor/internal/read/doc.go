// Package read streams blocks straight from the bucket: the series of an index in
// their order, and the chunks they point to, by ranged reads into buffers of a fixed
// size. A block is never downloaded, and what is held of it does not grow with it.
//
// A Source is one block. Its series come in the order of the index, which is that of
// their labels; labels are symbol numbers, which Symbols makes comparable among many
// sources without touching a string. Chunks are where the index says, and because
// blocks are written in the order of their series, reading them walks through the
// segments from front to back.
//
// Every series entry and every chunk is checked against its CRC. One that fails is read
// again past all buffers before it counts as broken: then the error is a *CorruptError
// that names block, object and place. Requests that fail are repeated; what is returned
// in the end may be tried again later.
//
// Formats: Prometheus TSDB index v1 and v2, tsdb/docs/format/index.md, and chunks v1,
// tsdb/docs/format/chunks.md.
package read
