module github.com/promontory-io/promontory/proto/gen

go 1.26.8

require (
	github.com/planetscale/vtprotobuf v0.6.1-0.20250313105119-ba97887b0a25
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260928230214-8a89bd6388cc // indirect
)

replace (
	github.com/promontory-io/promontory/libs => ../../libs
	github.com/promontory-io/promontory/libs/objstore => ../../libs/objstore
	github.com/promontory-io/promontory/libs/service => ../../libs/service
)
