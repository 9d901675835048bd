#!/usr/bin/env bash
# Linear heads beside the baselines on real data: bash launch/baselines.sh DATA [OUT], with a folder DATA that holds
#   magnatagatune/, mtat_posteriors/   as launch/mtat_stores.sh describes them
#   catalogue/audio/, catalogue/tags.csv   as launch/catalogue_stores.sh does: clip,tags,track
# Sweeps both data sets with all five solvers (launch/baselines.cfg) and compares them on one page for each:
# OUT/mtat_posteriors and OUT/catalogue, OUT being results/baselines unless given; results/reference/baselines is a copy.
# Manifests and stores are those of launch/mtat_posteriors.sh and catalogue.sh, made unless they are there. Stopped, the
# same command goes on. SEEDS makes it smaller.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/catalogue_stores.sh"
source "$(dirname "${BASH_SOURCE[0]}")/mtat_stores.sh"
[ $# -ge 1 ] && [ -d "$1/mtat_posteriors" ] && [ -f "$1/catalogue/tags.csv" ] ||
  fail "usage: bash launch/baselines.sh DATA [OUT] (see the head of this file)"
data=$(cd "$1" && pwd) out=results/baselines seeds=${SEEDS:-20}
use_catalogue "$data/catalogue"
[ -z "${2:-}" ] || out=$(from_here "$2")
make_environment .venv extract
cd "$root"
posteriors=.cache/mtat_posteriors

make_mtat_stores "$data"
make_split 0
extract_catalogue "$work/logmel" --embedding=logmel
extract_musicnn 3

compare() {  # compare NAME FLAG…: all solvers on one data set, and a page that compares them
  local name=$1 results=() by; shift
  for solver in lbfgs adam ridge prototypes lc_protonets; do
    by=(--validation=support)  # inside the support set, which is all that prototypes see
    [[ $solver != *proto* ]] || by=()
    "$python" -m fsprobe.sweep --flagfile=launch/baselines.cfg --num_seeds=$seeds --solver=$solver "${by[@]}" "$@" \
      --out="$out/$name/$solver"
    results+=("--results=$out/$name/$solver")
  done
  "$python" -m fsprobe.report "${results[@]}" --noeach --out="$out/$name"
}
compare mtat_posteriors --dataset="MagnaTagATune, posteriors of two taggers" --manifest=$posteriors/manifest.csv \
  --store=msd_musicnn=$posteriors/msd_musicnn --store=jamendo_musicnn=$posteriors/jamendo_musicnn \
  --embedding=msd_musicnn --embedding=combined --tags=top50 --n_way=10 --n_way=30 --k_shot=1 --k_shot=5 --k_shot=10
compare catalogue --dataset="$dataset" --manifest=$work/split0.csv --missing=drop \
  --store=logmel=$work/logmel --store=musicnn=$work/musicnn_3s/penultimate \
  --embedding=logmel --embedding=musicnn --tags=all --n_way=5 --n_way=10 --k_shot=1 --k_shot=5 --k_shot=full
