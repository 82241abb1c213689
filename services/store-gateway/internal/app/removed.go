package app

import (
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// bindRemoved binds what older manifests may still carry.
func bindRemoved(fs *pflag.FlagSet) {
	flags.RemovedEverywhere(fs)
	flags.RemovedBool(fs, "experimental.enable-index-header", "index headers are always used")
	flags.RemovedBool(fs, "experimental.enable-index-cache-postings-compression", "cached postings are always compressed")
	flags.RemovedBool(fs, "debug.advertise-compatibility-label", "queriers that needed the label are not supported")
}
