#!/usr/bin/env bash
# What it costs to have no validation set: bash launch/validation.sh DATA, with a folder DATA as launch/mtat_stores.sh
# describes it. Sweeps launch/validation.cfg with --validation=valid, support and none, converged and with the paper's
# solver, and writes rows and report to results/validation; results/reference/validation is a copy. Stopped, the same
# command goes on. SEEDS makes it smaller.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/mtat_stores.sh"
[ $# = 1 ] && [ -d "$1/mtat_posteriors" ] || fail "usage: bash launch/validation.sh DATA (see launch/mtat_stores.sh)"
data=$(cd "$1" && pwd)
make_environment .venv extract
cd "$root"

make_mtat_stores "$data"
results=()
for solver in lbfgs adam; do
  more=(); [ $solver = adam ] || more=(--k_shot=full)  # 400 epochs of every training clip would take too long
  for way in valid support none; do
    name=results/validation/${solver}_$way
    "$python" -m fsprobe.sweep --flagfile=launch/validation.cfg --solver=$solver --validation=$way \
      --num_seeds="${SEEDS:-20}" --out=$name "${more[@]}"
    results+=("--results=$name")
  done
done
"$python" -m fsprobe.report "${results[@]}" --out=results/validation
