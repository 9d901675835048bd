#!/usr/bin/env bash
# Few-shot tagging of a catalogue, end to end: bash launch/catalogue.sh DIR [OUT], with a folder DIR that holds
#   audio/      the clips
#   tags.csv    clip,tags,track: what each clip is, and the track that it is a part of
# What is made of it lies in .cache/catalogue, or .cache/catalogue_NAME where DIR has another NAME than catalogue.
# Extracts log-mel and musicnn (three window lengths, six layers each, in three passes), draws five splits by track,
# sweeps every split with the converged and with the paper's solver (launch/catalogue.cfg), reports on the splits
# together, ablates layers and window lengths on the first (launch/multilevel.cfg), and writes rows, tables and figures
# below OUT, results/catalogue unless given; results/reference/catalogue is a copy. Stopped, the same command goes on.
# SPLITS and SEEDS make it smaller.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/catalogue_stores.sh"
[ $# -ge 1 ] && [ -f "$1/tags.csv" ] && [ -d "$1/audio" ] ||
  fail "usage: bash launch/catalogue.sh DIR [OUT] (see the head of this file)"
use_catalogue "$1"
out=results/catalogue splits=${SPLITS:-5}
[ -z "${2:-}" ] || out=$(from_here "$2")
make_environment .venv extract
cd "$root"

for ((split = 0; split < splits; split++)); do make_split $split; done
extract_catalogue "$work/logmel" --embedding=logmel
for seconds in 1.5 3 6; do extract_musicnn $seconds; done

flagfile=$(flags catalogue) results=()
for solver in lbfgs adam; do
  for ((split = 0; split < splits; split++)); do
    name=$out/${solver}_split$split
    "$python" -m fsprobe.sweep --flagfile="$flagfile" --manifest="$work/split$split.csv" --solver=$solver \
      --dataset="$dataset" --num_seeds="${SEEDS:-50}" --out="$name"
    results+=("--results=$name")
  done
done
"$python" -m fsprobe.report "${results[@]}" --out="$out"
"$python" -m fsprobe.sweep --flagfile="$(flags multilevel)" --dataset="$dataset" --num_seeds="${SEEDS:-20}" \
  --out="$out/multilevel"
"$python" -m fsprobe.report --results="$out/multilevel"
