#!/bin/sh
# What the English direction of the demo breaks, beside what it removes. Run after `make demo`, in the folder of the
# checkout, with the extra [lm-eval]. The demo's direction, answers and labels are in the store and are not made again.
#   sh examples/cost/run.sh [further options of `refusalctl cost`]
set -eu
refusalctl=${REFUSALCTL:-.venv/bin/refusalctl}
here=$(dirname "$0")
direction=$($refusalctl select --config examples/demo.toml --lang en)
$refusalctl cost "ablate:$direction" --config examples/demo.toml --langs en --doses 0.5,1 \
    --task "$here/everyday.yaml" --text "en=$here/en.txt" --contrast sample --name demo-cost "$@"
case " $* " in *" --dry-run "*) exit ;; esac
$refusalctl report demo --cost demo-cost
