// Package discovery finds the addresses of peers: given as they are, looked up in DNS, or listed in files.
//
// Its central idea is that losing an answer is not an answer. A lookup that fails, or a file that cannot be read,
// keeps the addresses known before; a name that suddenly has no addresses, or fewer, has them listed as missing with
// the time since when ([Provider.Missing], [Provider.Names], [Files.State]). Whoever queries the peers can so say what is
// absent from an answer, where forgetting would leave a silent hole.
//
// The parts:
//
//   - [Provider] resolves addresses that may carry a DNS prefix; static ones pass through.
//   - [Files] follows files in Prometheus' file_sd format, of which only the targets count.
//   - [EndpointsConfig] is the YAML that lists a querier's endpoints.
package discovery
