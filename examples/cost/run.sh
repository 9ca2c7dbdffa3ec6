#!/bin/sh
# What the English direction of the demo breaks: run after `make demo`, from the folder of the checkout. Needs the extra
# [lm-eval]. Answers, labels and the direction of the demo are in the store already and are not computed again.
set -eu
refusalctl=${REFUSALCTL:-refusalctl}
here=$(dirname "$0")
direction=$($refusalctl select --config examples/demo.toml --lang en)
$refusalctl cost "ablate:$direction" --config examples/demo.toml --langs en --n-test "${N_TEST:-24}" \
    --doses "${DOSES:-0.5,1}" --task "$here/everyday.yaml" --text "en=$here/en.txt" --contrast sample --name demo-cost
