#!/usr/bin/env bash
# Few-shot tagging of a catalogue, end to end: bash launch/catalogue.sh DIR [OUT], with a folder DIR that holds
#   audio/      the clips
#   tags.csv    clip,tags,track: what each clip is, and the track that it is a part of
# Extracts log-mel and musicnn (three window lengths, six layers each, in three passes), draws five splits by track,
# sweeps every split with the converged and with the paper's solver (launch/catalogue.cfg), reports on the splits
# together, ablates layers and window lengths on the first (launch/multilevel.cfg), and writes rows, tables and figures
# below OUT, results/catalogue unless given; results/reference/catalogue is a copy. Stopped, the same command goes on.
# SPLITS and SEEDS make it smaller.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ $# -ge 1 ] && [ -f "$1/tags.csv" ] && [ -d "$1/audio" ] ||
  fail "usage: bash launch/catalogue.sh DIR [OUT] (see the head of this file)"
data=$(cd "$1" && pwd)
make_environment .venv extract
cd "$root"
work=.cache/catalogue out=${2:-results/catalogue} splits=${SPLITS:-5} seeds=${SEEDS:-50}

for ((split = 0; split < splits; split++)); do
  "$python" -m extract.prepare --dataset=folder --audio_root="$data/audio" --tags="$data/tags.csv" --group_by=track \
    --seed=$split --out=$work/split$split.csv
done
extract() {
  "$python" -m extract.run --manifest=$work/split0.csv --audio_root="$data/audio" "$@" ||
    [ $? = 1 ]  # some clips failed: they are listed in the store, and left out below
}
extract --embedding=logmel --store=$work/logmel
for seconds in 1.5 3 6; do
  extract --embedding=musicnn --musicnn_window=$seconds --musicnn_hop=$seconds --store=$work/musicnn_${seconds}s \
    --musicnn_layer={timbral,temporal,cnn1,cnn2,cnn3,penultimate}
done

results=()
for solver in lbfgs adam; do
  for ((split = 0; split < splits; split++)); do
    name=$out/${solver}_split$split
    "$python" -m fsprobe.sweep --flagfile=launch/catalogue.cfg --manifest=$work/split$split.csv --solver=$solver \
      --num_seeds=$seeds --out="$name"
    results+=("--results=$name")
  done
done
"$python" -m fsprobe.report "${results[@]}" --out="$out"
"$python" -m fsprobe.sweep --flagfile=launch/multilevel.cfg --out="$out/multilevel"
"$python" -m fsprobe.report --results="$out/multilevel"
