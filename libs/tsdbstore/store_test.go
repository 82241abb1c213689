package tsdbstore_test

import (
	"context"
	"net"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
	"github.com/promontory-io/promontory/libs/tsdbstore"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// infoServer announces a store the way its owning service would.
type infoServer struct {
	info.UnimplementedInfoServer
	store *tsdbstore.Store
	maxt  int64
}

func (s *infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	mint, err := s.store.MinTime()
	if err != nil {
		return nil, err
	}
	return &info.InfoResponse{
		ComponentType: "receive",
		LabelSets:     []*thanos.LabelSet{storeapi.LabelSet(s.store.External())},
		Store: &info.StoreInfo{
			MinTime: mint, MaxTime: s.maxt, SupportsSharding: true, SupportsWithoutReplicaLabels: true,
		},
	}, nil
}

func serve(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(storeapi.ServerOption())
	register(srv)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///store",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		srv.Stop()
		require.NoError(t, <-served)
	})
	return conn
}

// setup makes a store over a TSDB that keeps the data in its head or in a block.
func setup(t *testing.T, data storeapitest.Data, toBlock bool) *grpc.ClientConn {
	opts := tsdb.DefaultOptions()
	opts.MinBlockDuration = 24 * 3_600_000
	opts.MaxBlockDuration = 24 * 3_600_000
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	data.Append(t, db.Appender(t.Context()))
	if toBlock {
		require.NoError(t, db.CompactHead(tsdb.NewRangeHead(db.Head(), storeapitest.Start, storeapitest.End)))
	}
	store := tsdbstore.New(db, func() labels.Labels { return data.External })
	return serve(t, func(srv *grpc.Server) {
		storeapi.Register(srv, store, storeapi.ServerConfig{})
		info.RegisterInfoServer(srv, &infoServer{store: store, maxt: storeapitest.End})
	})
}

func TestTSDBStoreMeetsTheContractFromItsHead(t *testing.T) {
	storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn { return setup(t, data, false) })
}

func TestTSDBStoreMeetsTheContractFromABlock(t *testing.T) {
	storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn { return setup(t, data, true) })
}
