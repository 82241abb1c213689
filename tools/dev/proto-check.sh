#!/usr/bin/env bash
# The proto files are formatted, clean and compatible with main, and proto/gen is what they generate.
set -euo pipefail
cd "$(dirname "$0")/../.."

buf format --diff --exit-code
buf lint

# The first commit, and a clone of one branch, have no main to compare with.
if git rev-parse --verify --quiet main:buf.yaml >/dev/null; then
	buf breaking --against '.git#branch=main'
else
	echo "proto-check: no main branch with proto files here, nothing to compare with"
fi

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
buf generate --output "$fresh"
# Tests live beside generated code; nothing else does.
if ! diff -r -q --exclude='*_test.go' --exclude=testdata --exclude=go.mod --exclude=go.sum "$fresh/proto/gen" proto/gen; then
	echo "proto-check: proto/gen is not what proto/ generates (make proto)" >&2
	exit 1
fi
echo "proto-check: clean"
