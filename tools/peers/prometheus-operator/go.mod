// The definitions of prometheus-operator's custom resources, which manifests are held against. Nothing of it is built.
module github.com/promontory-io/promontory/tools/peers/prometheus-operator

go 1.26.8

require github.com/prometheus-operator/prometheus-operator v0.85.0
