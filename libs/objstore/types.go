package objstore

import (
	"github.com/thanos-io/objstore"
)

// The upstream types that a user of a bucket needs. See github.com/thanos-io/objstore for their contracts.
type (
	// Bucket reads and writes objects. It is safe for concurrent use.
	Bucket = objstore.Bucket
	// BucketReader is the reading half of Bucket.
	BucketReader = objstore.BucketReader
	// InstrumentedBucket is a Bucket that counts operations and can be told which errors are expected.
	InstrumentedBucket = objstore.InstrumentedBucket
	// InstrumentedBucketReader is the reading half of InstrumentedBucket.
	InstrumentedBucketReader = objstore.InstrumentedBucketReader
	// Provider is the kind of a bucket, in upper case, as in the YAML key "type".
	Provider = objstore.ObjProvider
	// ObjectAttributes are the size and the time of last modification of an object.
	ObjectAttributes = objstore.ObjectAttributes
	// IterObjectAttributes is what IterWithAttributes says of an object.
	IterObjectAttributes = objstore.IterObjectAttributes
	// IterOption changes what Iter lists.
	IterOption = objstore.IterOption
	// IterOptionType names an IterOption.
	IterOptionType = objstore.IterOptionType
	// ObjectUploadOption changes how an object is stored.
	ObjectUploadOption = objstore.ObjectUploadOption
)

// DirDelim separates the parts of an object name; names of directories end with it.
const DirDelim = objstore.DirDelim

// WithRecursiveIter makes Iter list all objects below the directory instead of its direct entries.
func WithRecursiveIter() IterOption { return objstore.WithRecursiveIter() }

// WithUpdatedAt makes IterWithAttributes report times of last modification. Not every provider can: ask
// SupportedIterOptions first.
func WithUpdatedAt() IterOption { return objstore.WithUpdatedAt() }

// NewInMemBucket returns an empty bucket that lives in memory: for tests.
func NewInMemBucket() *objstore.InMemBucket { return objstore.NewInMemBucket() }

// WithNoopInstr gives bkt the instrumented interface without any metrics: for tests.
func WithNoopInstr(bkt Bucket) InstrumentedBucket { return objstore.WithNoopInstr(bkt) }
