#!/bin/bash
# One matrix as a Slurm array without Ray: a task per target language, and a last job that puts the matrix together.
#
#   examples/slurm_array.sh examples/matrix.toml en,de,ru,be,ba,tg [further options of sbatch, such as --partition=gpu]
#
# REFUSALCTL_STORE must lie on a file system that all nodes share. What two tasks need (the direction of a source) is
# computed by one of them while the other waits, or finds it. A task that failed or was killed is simply given again:
# what is done is found. The last job runs in any case (afterany): it computes what a lost task left, or says what fails.
set -euo pipefail

if [[ -z "${SLURM_ARRAY_TASK_ID:-}" ]]; then
    file=$1 langs=$2
    shift 2
    n=$(tr ',' '\n' <<<"$langs" | wc -l)
    array=$(sbatch --parsable --array="0-$((n - 1))" --gres=gpu:1 --cpus-per-task=8 --signal=B:TERM@120 --requeue \
        --job-name=refusalctl-part "$@" "$0" "$file" "$langs")
    sbatch --dependency="afterany:$array" --gres=gpu:1 --cpus-per-task=8 --job-name=refusalctl-matrix "$@" \
        --wrap "refusalctl run '$file'"
    exit
fi

IFS=, read -r -a langs <<<"$2"
# exec: Slurm's TERM reaches refusalctl itself, which keeps what is finished
exec refusalctl run "$1" --only-langs "${langs[$SLURM_ARRAY_TASK_ID]}"
