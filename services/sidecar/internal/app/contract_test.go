package app

import (
	"testing"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

func contract(t *testing.T, toBlock bool) {
	storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn {
		prom := promtest.Start(t, promtest.Options{
			External: data.External,
			Prepare:  func(dir string) { writeTSDB(t, dir, data, toBlock) },
		})
		return start(t, prom).dial(t)
	})
}

func TestSidecarMeetsTheContractOverTheHeadOfPrometheus(t *testing.T) { contract(t, false) }

func TestSidecarMeetsTheContractOverABlockOfPrometheus(t *testing.T) { contract(t, true) }
