# Promontory. `make help` lists what there is; `make check` is what must pass before a change lands.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# One set of build flags for builds and tests: another set would fill the build cache a second time.
GO ?= go
BIN := $(CURDIR)/bin
TOOLBIN := $(CURDIR)/.bin
export PATH := $(TOOLBIN):$(PATH)

# Modules are listed once, in go.work; `make work` rewrites it.
MODULES := $(patsubst ./%,%,$(shell sed -n 's/^[[:space:]]*\(\.\/[^ ]*\).*/\1/p' go.work))
# Our own checks build without the workspace, so that they can also mend it.
DEV := GOWORK=off $(GO) run -C tools/dev .
# What `go` calls all packages of those modules: a pattern does not reach into a nested module.
PACKAGES := $(addprefix ./,$(addsuffix /...,$(filter-out tools/e2e tools/manifests,$(MODULES))))
# A program is named for the folder of its module: services/querier/cmd/querier is bin/querier.
MAINS := $(sort $(dir $(wildcard services/*/cmd/main.go services/*/cmd/*/main.go tools/*/cmd/main.go tools/*/cmd/*/main.go)))

## ---- everyday

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^## ----/ {printf "\n%s\n", substr($$0, 9)} /^[a-z][a-z0-9-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## build all programs into bin/
	@mkdir -p $(BIN)
	@for dir in $(MAINS); do \
		name=$$(cut -d/ -f2 <<<"$$dir"); \
		echo "build bin/$$name"; \
		$(GO) build -o $(BIN)/$$name ./$$dir; \
	done

.PHONY: up
up: build peers ## build and run the whole stack here, with some days of history (ARGS="--help" for its flags)
	@exec $(BIN)/promontory up $(ARGS)

.PHONY: test
test: peers build ## unit, contract and golden tests of all modules, then the end-to-end tests
	$(GO) test $(PACKAGES)
	PROMONTORY_E2E_REQUIRED=1 $(GO) test -count=1 ./tools/e2e/...

.PHONY: e2e
e2e: peers build ## the end-to-end tests alone, with real processes (RUN=regexp for some of them)
	PROMONTORY_E2E_REQUIRED=1 PROMONTORY_CORPUS_WHOLE=1 $(GO) test -count=1 -v $(if $(RUN),-run '$(RUN)') ./tools/e2e/...

.PHONY: manifests-check
manifests-check: peers build manifest-tools ## every overlay renders, is valid, and its containers' arguments start the real programs (RUN=regexp for some of it)
	PROMONTORY_MANIFESTS_REQUIRED=1 $(GO) test -count=1 $(if $(RUN),-v -run '$(RUN)') ./tools/manifests/...

.PHONY: manifests-apiserver
manifests-apiserver: peers build manifest-tools apiserver-tools ## every overlay, and the commands of docs/operate, sent to a real Kubernetes API server (needs etcd, package etcd-server)
	PROMONTORY_MANIFESTS_REQUIRED=1 PROMONTORY_APISERVER_REQUIRED=1 $(GO) test -count=1 -v -run 'APIServer' ./tools/manifests/...

.PHONY: browser
browser: peers build ## the pages in headless Chromium against the real stack (CHROMIUM=path, SCREENSHOTS=folder); needs Node 20, npm and Chromium, four minutes
	cd libs/webui/app/e2e && npm ci && npm test

.PHONY: bench
bench: ## benchmarks beside the code (PKG=./libs/dedup/... and RUN=regexp for some of them)
	$(GO) test -run '^$$' -bench '$(or $(RUN),.)' -benchmem $(or $(PKG),$(PACKAGES))
	$(if $(PKG)$(RUN),,@$(MAKE) bench-receive bench-compactor bench-store-gateway bench-querier)

.PHONY: bench-receive
bench-receive: peers build ## receivers under remote write, beside a real Prometheus (ARGS="--help" for its flags)
	$(GO) run ./tools/bench/cmd/bench receive --bin $(BIN) --peers $(TOOLBIN) $(ARGS)

.PHONY: bench-compactor
bench-compactor: build ## the compactor on two weeks of an HA pair, beside reading and writing the bytes once (ARGS="--help" for its flags)
	$(GO) run ./tools/bench/cmd/bench compactor --bin $(BIN) $(ARGS)

.PHONY: bench-store-gateway
bench-store-gateway: peers build ## Series of 2 × 100,000 series beside a bare stream, LabelValues of a million, requests to S3, starts on 10,000 and 50,000 blocks
	$(GO) run ./tools/bench/cmd/bench store-gateway-series --bin $(BIN)
	$(GO) run ./tools/bench/cmd/bench store-gateway-labels --bin $(BIN)
	$(GO) run ./tools/bench/cmd/bench store-gateway-requests --bin $(BIN) --peers $(TOOLBIN)
	$(GO) run ./tools/bench/cmd/bench store-gateway-start --bin $(BIN)

.PHONY: bench-querier
bench-querier: peers build ## dashboard queries to querier and store-gateway, beside a real Prometheus (ARGS="--help" for its flags)
	$(GO) run ./tools/bench/cmd/bench querier --bin $(BIN) --peers $(TOOLBIN) $(ARGS)

.PHONY: fmt
fmt: $(TOOLBIN)/.gofumpt $(TOOLBIN)/.buf ## format Go and proto files
	@gofumpt -l -w $(MODULES)
	@[ ! -f buf.yaml ] || buf format -w

## ---- what a change must pass

.PHONY: check
check: fmt-check lint layers mod-check proto-check test manifests-check ## all of the below, then the tests

.PHONY: fmt-check
fmt-check: $(TOOLBIN)/.gofumpt ## no file differs from what `make fmt` makes of it
	@unformatted=$$(gofumpt -l $(MODULES) | sort -u); \
	[ -z "$$unformatted" ] || { echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; }

.PHONY: lint
lint: $(TOOLBIN)/.golangci-lint ## golangci-lint in every module, and no test that waits by sleeping
	@$(DEV) sleeps
	@for module in $(MODULES); do \
		echo "lint $$module"; \
		(cd $$module && golangci-lint run --allow-parallel-runners ./...) || failed="$${failed:-} $$module"; \
	done; \
	[ -z "$${failed:-}" ] || { echo "lint found something in:$$failed"; exit 1; }

.PHONY: layers
layers: ## imports go one way: services and tools, libs, proto
	@$(DEV) layers

.PHONY: mod-check
mod-check: ## every go.mod is tidy, builds alone, and agrees with the others
	@$(DEV) mod-check

.PHONY: proto-check
proto-check: $(TOOLBIN)/.buf $(TOOLBIN)/.protoc-gen-go $(TOOLBIN)/.protoc-gen-go-grpc $(TOOLBIN)/.protoc-gen-go-vtproto ## proto files are clean, compatible, and generated code is theirs
	@tools/dev/proto-check.sh

## ---- generated and installed things

.PHONY: proto
proto: $(TOOLBIN)/.buf $(TOOLBIN)/.protoc-gen-go $(TOOLBIN)/.protoc-gen-go-grpc $(TOOLBIN)/.protoc-gen-go-vtproto ## generate Go code from proto/
	buf generate

.PHONY: dashboards
dashboards: ## generate Grafana's dashboards from deploy/grafana/dashboards.yaml
	$(GO) run ./tools/manifests/dashboards deploy/grafana/dashboards.yaml deploy/components/grafana/dashboards

.PHONY: images
images: ## make a container image of each program in bin/images (NAMES="querier sidecar" for some, VERSION=…)
	$(GO) run ./tools/images -out $(BIN)/images -version $(or $(VERSION),dev) -revision $$(git rev-parse --short HEAD) $(NAMES)

.PHONY: webui
webui: ## test and build the pages into libs/webui/dist, which is checked in (needs Node 20 and npm; a Go test tells when it is due)
	cd libs/webui/app && npm install --no-save && npm test && npm run build

.PHONY: work
work: ## rewrite go.work from the modules in the tree, and align their versions
	@$(DEV) work
	$(GO) work sync

.PHONY: tidy
tidy: ## tidy every go.mod and align their versions
	@tidy() { for module in $(MODULES); do echo "tidy $$module"; (cd $$module && GOWORK=off $(GO) mod tidy); done; }; \
	tidy; $(GO) work sync; tidy # what a module requires depends on its neighbours: hence twice

.PHONY: tools
tools: $(addprefix $(TOOLBIN)/.,buf protoc-gen-go protoc-gen-go-grpc protoc-gen-go-vtproto golangci-lint gofumpt) ## install the pinned tools into .bin/

.PHONY: peers
peers: $(TOOLBIN)/.prometheus $(TOOLBIN)/.alertmanager $(TOOLBIN)/.versitygw ## build the real Prometheus, Alertmanager and S3 server that `up` and the tests run into .bin/

.PHONY: manifest-tools
manifest-tools: $(TOOLBIN)/.kustomize $(TOOLBIN)/.kubectl-validate $(TOOLBIN)/.crds $(TOOLBIN)/.minio ## install what manifests are rendered with and held against into .bin/

.PHONY: apiserver-tools
apiserver-tools: $(TOOLBIN)/.kubernetes ## build the real kube-apiserver and kubectl into .bin/

.PHONY: clean
clean: ## remove what was built, and the data of `up`
	rm -rf bin .bin .data

# The tools and their versions. The stamp .bin/.<name> holds the version that is installed, so that a
# changed line here installs anew.
TOOL_buf := github.com/bufbuild/buf/cmd/buf@v1.75.0
TOOL_protoc-gen-go := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
TOOL_protoc-gen-go-grpc := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
TOOL_protoc-gen-go-vtproto := github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto@v0.6.1-0.20250313105119-ba97887b0a25
TOOL_golangci-lint := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
TOOL_gofumpt := mvdan.cc/gofumpt@v0.12.0
TOOL_kustomize := sigs.k8s.io/kustomize/kustomize/v5@v5.8.2
TOOL_kubectl-validate := sigs.k8s.io/kubectl-validate@v0.0.4
# The newest whose module holds its web pages, so that it builds from there.
TOOL_alertmanager := github.com/prometheus/alertmanager/cmd/alertmanager@v0.31.1

$(TOOLBIN)/.%: FORCE
	@[ "$$(cat $@ 2>/dev/null)" = "$(TOOL_$*)" ] && [ -x $(TOOLBIN)/$* ] || { \
		[ -n "$(TOOL_$*)" ] || { echo "no tool named $*"; exit 1; }; \
		echo "install $(TOOL_$*)"; \
		mkdir -p $(TOOLBIN); \
		GOBIN=$(TOOLBIN) $(GO) install $(TOOL_$*); \
		echo "$(TOOL_$*)" >$@; \
	}

# Prometheus' own module asks for no plugin here: static, file and http discovery are enough, and half the build.
$(TOOLBIN)/.prometheus: tools/peers/prometheus/go.mod tools/peers/prometheus/go.sum
	@mkdir -p $(TOOLBIN)
	@echo "build prometheus and promtool (a minute or two the first time)"
	@cd tools/peers/prometheus && GOWORK=off $(GO) build -tags remove_all_sd -o $(TOOLBIN)/ \
		github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool
	@touch $@

# An S3 server over a folder.
$(TOOLBIN)/.versitygw: tools/peers/versitygw/go.mod tools/peers/versitygw/go.sum
	@mkdir -p $(TOOLBIN)
	@echo "build versitygw (two minutes the first time)"
	@cd tools/peers/versitygw && GOWORK=off $(GO) build -o $(TOOLBIN)/ github.com/versity/versitygw/cmd/versitygw
	@touch $@

# The object store of the trial's manifests.
$(TOOLBIN)/.minio: tools/peers/minio/go.mod tools/peers/minio/go.sum
	@mkdir -p $(TOOLBIN)
	@echo "build minio (two to four minutes the first time)"
	@cd tools/peers/minio && GOWORK=off $(GO) build -o $(TOOLBIN)/ github.com/minio/minio
	@touch $@

# The schemas of prometheus-operator's resources, from its module.
$(TOOLBIN)/.crds: tools/peers/prometheus-operator/go.mod tools/peers/prometheus-operator/go.sum
	@rm -rf $(TOOLBIN)/crds && mkdir -p $(TOOLBIN)/crds
	@cd tools/peers/prometheus-operator && GOWORK=off $(GO) mod download github.com/prometheus-operator/prometheus-operator && \
		cp "$$(GOWORK=off $(GO) list -m -f '{{.Dir}}' github.com/prometheus-operator/prometheus-operator)"/example/prometheus-operator-crd/monitoring.coreos.com_{prometheuses,prometheusrules,servicemonitors}.yaml $(TOOLBIN)/crds/
	@chmod u+w $(TOOLBIN)/crds/* && touch $@

# A Kubernetes API server, the newest there is. It says which version it is only when it is told at the link.
KUBERNETES_VERSION = $(shell sed -n 's/^require k8s.io\/kubernetes //p' tools/peers/kubernetes/go.mod)
$(TOOLBIN)/.kubernetes: tools/peers/kubernetes/go.mod tools/peers/kubernetes/go.sum
	@mkdir -p $(TOOLBIN)
	@echo "build kube-apiserver and kubectl (five minutes the first time)"
	@cd tools/peers/kubernetes && GOWORK=off $(GO) build -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES_VERSION)' \
		-o $(TOOLBIN)/ k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
	@touch $@

.PHONY: FORCE
FORCE:
