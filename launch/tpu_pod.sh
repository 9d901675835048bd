#!/usr/bin/env bash
# A sweep over all hosts of a TPU pod slice: bash launch/tpu_pod.sh TPU ZONE DIRECTORY [FLAGFILE]. DIRECTORY is this
# repository with its .venv (pip install -e '.[tpu]') on a disk that every host sees: the stores are read by all, the
# results written by the first. Run it again to go on.
set -euo pipefail
if (($# < 3)); then
  echo "usage: bash launch/tpu_pod.sh TPU ZONE DIRECTORY [FLAGFILE]" >&2
  exit 2
fi
name=$1 zone=$2 directory=$3 flagfile=${4:-launch/tpu_pod.cfg}

printf -v command 'cd %q && .venv/bin/python -m fsprobe.sweep --flagfile=%q --distributed' "$directory" "$flagfile"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"
