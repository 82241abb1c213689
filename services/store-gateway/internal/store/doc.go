// Package store answers the Store and Info APIs over the blocks of a bucket.
//
// It chooses blocks by external labels, time and resolution, reads each of them as a
// sorted stream, merges the streams and passes the series on. Its central promise is
// that a broken block costs its own data and no more, and that the answer says so: as a warning,
// or as the answer's failure where the caller wants all or nothing.
package store
