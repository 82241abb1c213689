// Package corpus holds the expressions that every way of asking has to answer as a real Prometheus does, and the tests that ask.
//
// The same samples, of testdata/samples.load, lie in the data folder of a Prometheus server and, as blocks, in two buckets. The
// server is asked directly; we are asked by way of its sidecar, of a store gateway, and of a pair of identical replicas, with
// both engines, and with a query frontend that splits, divides and caches. Answers are equal when they have the same series with the
// same values to nine digits, or fail with the same kind of error.
//
// Broken buckets are another corpus: package run of the compactor breaks blocks made by libs/block/blocktest.
package corpus
