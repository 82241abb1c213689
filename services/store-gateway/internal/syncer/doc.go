// Package syncer keeps the blocks of a store in step with the bucket.
//
// Each round looks through the bucket, opens what is new and lets go of what is gone. A
// block that cannot be opened is set aside with its reason and tried again in the
// next round; the others are served meanwhile. In the place of one that is broken its sources are
// served, where they are still there.
package syncer
