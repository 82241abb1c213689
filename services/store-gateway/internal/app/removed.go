package app

import (
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// bindRemoved binds what older manifests may still carry.
func bindRemoved(fs *pflag.FlagSet) {
	const gossip = "peers are not found by gossip any more"
	for _, name := range []string{
		"cluster.address", "cluster.advertise-address", "cluster.peers", "cluster.gossip-interval",
		"cluster.pushpull-interval", "cluster.refresh-interval", "cluster.secret-key", "cluster.network-type",
		"grpc-advertise-address", "http-advertise-address",
	} {
		flags.Removed(fs, name, gossip)
	}
	flags.RemovedBool(fs, "cluster.disable", gossip)
	flags.Removed(fs, "log.request.decision", "use --request.logging-config")
	flags.RemovedBool(fs, "experimental.enable-index-header", "index headers are always used")
	flags.RemovedBool(fs, "experimental.enable-index-cache-postings-compression", "cached postings are always compressed")
	flags.RemovedBool(fs, "debug.advertise-compatibility-label", "queriers that needed the label are not supported")
}
