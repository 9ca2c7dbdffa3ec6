#!/bin/bash
# A smoke test for CI: is refusalctl, with this environment's torch and transformers, still right and still repeatable?
#
#   examples/smoke_test.sh
#
# Runs smoke_test.toml, whose right answer is known, in an empty store; asks again, which must compute nothing; hashes
# every file; and plans the same question for a model of yours where MODEL names one (a hub id or a folder). Exit code 1
# where anything of this fails. A minute or less on two cores, most of it imports.
set -euo pipefail

file=$(dirname "$0")/smoke_test.toml
REFUSALCTL_STORE=$(mktemp -d)
export REFUSALCTL_STORE
trap 'rm -rf "$REFUSALCTL_STORE"' EXIT

first=$(refusalctl transfer --config "$file" --name smoke)
second=$(refusalctl transfer --config "$file")
[[ "$first" == "$second" ]] || { echo "the same question gave $first and $second" >&2; exit 1; }

refusalctl artifacts verify
python3 -c 'import sys, refusalctl; sys.exit(refusalctl.open("smoke").verdict("qaa", "qab") != "transfers")' ||
    { echo "qaa's direction acts in qab, and the verdict does not say so" >&2; exit 1; }

if [[ -n "${MODEL:-}" ]]; then
    refusalctl transfer --model "$MODEL" --data sample --sources en --targets en,de --dry-run
fi
