package flags

import "github.com/spf13/pflag"

// RemovedEverywhere binds the flags that every service of Thanos once had and manifests may still carry: peers that find each
// other by gossip, and the first form of request logging.
func RemovedEverywhere(fs *pflag.FlagSet) {
	const gossip = "peers are not found by gossip any more"
	for _, name := range []string{
		"cluster.address", "cluster.advertise-address", "cluster.peers", "cluster.gossip-interval",
		"cluster.pushpull-interval", "cluster.refresh-interval", "cluster.secret-key", "cluster.network-type",
		"grpc-advertise-address", "http-advertise-address",
	} {
		Removed(fs, name, gossip)
	}
	RemovedBool(fs, "cluster.disable", gossip)
	Removed(fs, "log.request.decision", "use --request.logging-config")
}
