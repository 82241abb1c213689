// Package hashring decides which nodes own a series.
//
// A configuration lists rings; the first whose tenants match a tenant is that tenant's. A ring
// maps the hash of tenant and labels to as many nodes as there are replicas. Every router of a
// cluster has to come to the same owners, whatever program it is, so the hashes and the walk
// around the ring are part of the outward contract and are held by recorded answers.
//
// All owners are computed when a ring is built: a look-up is a binary search and no more. Rings
// that cannot place all replicas are refused when they are built, with the reason.
package hashring
