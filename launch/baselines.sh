#!/usr/bin/env bash
# Linear heads beside the baselines on real data: bash launch/baselines.sh DATA [OUT], with a folder DATA that holds
#   magnatagatune/, mtat_posteriors/   as launch/mtat_posteriors.sh wants them
#   catalogue/audio/, catalogue/tags.csv   as launch/catalogue.sh wants them
# Sweeps both data sets with all five solvers (launch/baselines.cfg) and compares them on one page for each:
# OUT/mtat_posteriors and OUT/catalogue, OUT being results/baselines unless given; results/reference/baselines is a copy.
# Manifests and stores of the two scripts above are used if they are there, else made. Stopped, the same command goes on.
# SEEDS makes it smaller.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ $# -ge 1 ] && [ -d "$1/mtat_posteriors" ] && [ -f "$1/catalogue/tags.csv" ] ||
  fail "usage: bash launch/baselines.sh DATA [OUT] (see the head of this file)"
data=$(cd "$1" && pwd)
make_environment .venv extract
cd "$root"
out=${2:-results/baselines} seeds=${SEEDS:-20}
posteriors=.cache/mtat_posteriors catalogue=.cache/catalogue

"$python" -m extract.prepare --dataset=magnatagatune --out=$posteriors/manifest.csv \
  --annotations="$data/magnatagatune/annotations_final.csv.gz" --clip_info="$data/magnatagatune/clip_info_final.csv.gz" \
  --split_file="$data/mtat_posteriors/split.csv"
for name in msd_musicnn jamendo_musicnn; do
  "$python" -m extract.import_arrays --features="$data/mtat_posteriors/$name.npy" \
    --clip_ids="$data/mtat_posteriors/clip_ids.txt" --name=$name --store=$posteriors/$name
done

"$python" -m extract.prepare --dataset=folder --audio_root="$data/catalogue/audio" --tags="$data/catalogue/tags.csv" \
  --group_by=track --seed=0 --out=$catalogue/split0.csv
extract() {
  "$python" -m extract.run --manifest=$catalogue/split0.csv --audio_root="$data/catalogue/audio" "$@" ||
    [ $? = 1 ]  # some clips failed: they are listed in the store, and left out below
}
extract --embedding=logmel --store=$catalogue/logmel
extract --embedding=musicnn --musicnn_window=3 --musicnn_hop=3 --store=$catalogue/musicnn_3s \
  --musicnn_layer={timbral,temporal,cnn1,cnn2,cnn3,penultimate}

compare() {  # compare NAME FLAG…: all solvers on one data set, and a page that compares them
  local name=$1 results=(); shift
  for solver in lbfgs adam ridge prototypes lc_protonets; do
    "$python" -m fsprobe.sweep --flagfile=launch/baselines.cfg --num_seeds=$seeds --solver=$solver "$@" \
      --out="$out/$name/$solver"
    results+=("--results=$out/$name/$solver")
  done
  "$python" -m fsprobe.report "${results[@]}" --noeach --out="$out/$name"
}
compare mtat_posteriors --dataset="MagnaTagATune, posteriors of two taggers" --manifest=$posteriors/manifest.csv \
  --store=msd_musicnn=$posteriors/msd_musicnn --store=jamendo_musicnn=$posteriors/jamendo_musicnn \
  --embedding=msd_musicnn --embedding=combined --tags=top50 --n_way=10 --n_way=30 --k_shot=1 --k_shot=5 --k_shot=10
compare catalogue --dataset="game music catalogue" --manifest=$catalogue/split0.csv --missing=drop \
  --store=logmel=$catalogue/logmel --store=musicnn=$catalogue/musicnn_3s/penultimate \
  --embedding=logmel --embedding=musicnn --tags=all --n_way=5 --n_way=10 --k_shot=1 --k_shot=5 --k_shot=full
