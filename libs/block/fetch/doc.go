// Package fetch keeps the view of which blocks a bucket holds, and decides which
// of them a component works with.
//
// A Base does the I/O: it lists the bucket once per sync, reads the meta.json of
// blocks it has not seen (meta.json never changes while a block lives) and keeps
// them in memory and, where it is given a folder, on disk. A Fetcher puts a chain of
// Filters over a Base. Filters are pure: they take metas, markers and a time, and say
// which blocks they exclude and in which State that leaves them.
//
// Trouble with one block stays with that block. One without a usable meta.json is
// reported as partial; one that could not be read keeps its last good state where
// there is one, and is named in a PartialError that comes along with the result.
package fetch
