// Package job carries out one job of a plan, from the sources in the bucket to the
// results in the bucket: read once, merged and downsampled in one pass, read back and
// verified, made visible, and only then the sources marked for deletion.
//
// A job can end at any point, also by the end of the process. What it leaves then is
// either invisible (a partial upload, cleaned up later) or a whole block, after which
// the next run finds the sources covered by it and marks them.
package job
