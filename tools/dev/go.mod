module github.com/promontory-io/promontory/tools/dev

go 1.26.8
