// Package tenants keeps the samples of each tenant in a Prometheus TSDB of its own.
//
// A tenant's folder is <dir>/<tenant>, a plain TSDB folder, and is made by the first write. Whatever
// happens to one tenant (a broken log, a full limit, a slow upload) happens to it alone.
//
// # A known series costs no label set
//
// Series are recognised by their raw label bytes: a cache maps them to the TSDB's reference. Only a series
// seen for the first time has its labels parsed, checked and built. References go stale when the
// TSDB forgets a series; it says so, and the series is then looked up by its labels again.
//
// # A start does not wait for the log
//
// While a TSDB replays its log, which may take minutes, what is written to the tenant goes to a
// journal on the same disk, is acknowledged, and is appended in the same order when the replay is done. A
// journal that a crash leaves behind is appended at the next start; what it holds twice is then refused
// as a duplicate. Reads of such a tenant say that it is incomplete.
package tenants
