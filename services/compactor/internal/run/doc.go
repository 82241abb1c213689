// Package run keeps the compactor going: it looks at the bucket, plans, has jobs carried
// out, deals with those that fail, and keeps the bucket tidy.
//
// The work is done in lanes that run side by side: compaction, downsampling, upkeep
// (clean-up and garbage), retention, progress. Each looks at the bucket for itself and none
// waits for another's trouble. Within a lane each job stands for itself: one that fails
// is judged by package triage and rests for a while, and the rest goes on. Nothing halts.
package run
