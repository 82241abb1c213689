// Package objstore opens the bucket that a YAML document describes.
//
// The clients of the ten providers come from github.com/thanos-io/objstore; this package adds what every process of
// the project needs around them, always in the same order from the inside out:
//
//		provider -> errors -> prefix -> faults (tests only) -> spans -> metrics
//
//	  - the document is read strictly, and what is wrong with it is reported by line;
//	  - FILESYSTEM is our own implementation (package filesystem), because the upstream one lets readers see an object
//	    while it is still being written;
//	  - "not found" and "access denied" are recognised through any depth of wrapping, and error texts never show a
//	    secret of the document;
//	  - metrics carry the names that existing dashboards read, and spans are added when a tracer is given;
//	  - failures can be injected from the document itself (package faults), so that tests can make the bucket of a real
//	    process slow or broken.
//
// The types of the upstream library that callers meet are aliased here, so that they import one package only.
package objstore
