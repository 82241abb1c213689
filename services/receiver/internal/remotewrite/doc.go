// Package remotewrite reads what senders of metrics send, and keeps it as bytes.
//
// A series of a request is two slices: the bytes of its labels, and the bytes of everything else
// it has, both as fields of the TimeSeries message of remote write 1.0. In this form a series is
// passed on to other nodes without being encoded again, and one that is known already is
// recognised by its label bytes: no string and no label set is made for it.
//
// Requests of 2.0 are brought into the same form: their samples and histograms have the same
// fields as those of 1.0 and are copied as they are, start times included, which peers that do not
// know them skip; only labels and exemplars, which point into a symbol table, are written out.
package remotewrite
