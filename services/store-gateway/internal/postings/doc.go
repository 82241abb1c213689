// Package postings finds the series of a block that matchers select.
//
// It works in two steps. [NewPlan] turns the matchers into groups of label pairs, by looking at
// label values only; it does no I/O but for the index header. [Plan.Evaluate] joins
// the lists of these pairs, which somebody else has fetched: union within a group,
// intersection of the groups that add, minus the groups that remove.
package postings
