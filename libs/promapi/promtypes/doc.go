// Package promtypes holds the JSON shapes of the Prometheus HTTP API that are plain structs, with the few
// keys that a global view adds (partialResponseStrategy, replicas merged). One set of types serves both ends:
// a server fills them from what it knows, a client reads a Prometheus server's answers into them.
//
// Keys stand in the order of the fields. A nil list is written as null, as encoding/json does: whoever
// serves an answer where [] is expected gives an empty list.
package promtypes
