// Package indexheader holds the part of a block's index that a store needs at hand
// to find anything in the rest: the symbols and the table of postings offsets.
//
// It is cut out of the index with ranged reads and kept in a local file, whose format
// is shared with other implementations:
//
//	offset  size  content
//	0       4     magic 0xBAAAD792, big endian
//	4       1     version of the header, 1
//	5       1     version of the index, 1 or 2
//	6       8     big endian: where the postings offset table begins in the index
//	14      n     symbols: the index from its symbols to its series, verbatim
//	14+n    m     the index from its postings offset table to its end, verbatim
//	…       20    footer: 14 as u64, start of the table as u64, CRC32-C of these 16 bytes
//
// A [Reader] never maps the file. It keeps the position of every 32nd symbol and of some
// of the values of each label in memory and reads what lies between from the file, so that what it
// costs is a small, known part of the file's size.
package indexheader
