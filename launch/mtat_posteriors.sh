#!/usr/bin/env bash
# The real-data run: bash launch/mtat_posteriors.sh DATA, with a folder DATA that holds
#   magnatagatune/annotations_final.csv.gz and clip_info_final.csv.gz   the official files
#   mtat_posteriors/{msd_musicnn,jamendo_musicnn}.npy                  float32 [4332, 50], one row per test clip
#   mtat_posteriors/clip_ids.txt and split.csv                         the rows' clips, and their new splits
# Writes results/mtat_posteriors (the paper's solver) and results/mtat_posteriors_lbfgs (converged), reports included;
# the folders of the same names in results/reference are copies. Stopped, the same command goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ $# = 1 ] && [ -d "$1/mtat_posteriors" ] || fail "usage: bash launch/mtat_posteriors.sh DATA (see the head of this file)"
data=$(cd "$1" && pwd)
make_environment .venv extract
cd "$root"
work=.cache/mtat_posteriors

"$python" -m extract.prepare --dataset=magnatagatune --out=$work/manifest.csv \
  --annotations="$data/magnatagatune/annotations_final.csv.gz" --clip_info="$data/magnatagatune/clip_info_final.csv.gz" \
  --split_file="$data/mtat_posteriors/split.csv"
for name in msd_musicnn jamendo_musicnn; do
  "$python" -m extract.import_arrays --features="$data/mtat_posteriors/$name.npy" \
    --clip_ids="$data/mtat_posteriors/clip_ids.txt" --name=$name --store=$work/$name
done
"$python" -m fsprobe.sweep --flagfile=launch/mtat_posteriors.cfg
"$python" -m fsprobe.sweep --flagfile=launch/mtat_posteriors.cfg --solver=lbfgs --out=results/mtat_posteriors_lbfgs
"$python" -m fsprobe.report --results=results/mtat_posteriors
"$python" -m fsprobe.report --results=results/mtat_posteriors --results=results/mtat_posteriors_lbfgs \
  --out=results/mtat_posteriors_lbfgs
