// Package rangeread reads ranges of bucket objects into memory of the caller.
//
// It is the one place where the store gateway meets an unreliable bucket: reads that
// fail for no lasting reason are tried again within the caller's deadline, a body that
// ends early is noticed, and what cannot be read is told apart by what it obliges the
// caller to do: [ErrMissing] and [ErrTruncated] are the block's fault and stay, any
// other error is the bucket's and may pass.
package rangeread
