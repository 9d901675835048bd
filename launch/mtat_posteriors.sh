#!/usr/bin/env bash
# The real-data run: bash launch/mtat_posteriors.sh DATA, with a folder DATA as launch/mtat_stores.sh describes it.
# Writes results/mtat_posteriors (the paper's solver) and results/mtat_posteriors_lbfgs (converged), reports included;
# the folders of the same names in results/reference are copies. Stopped, the same command goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/mtat_stores.sh"
[ $# = 1 ] && [ -d "$1/mtat_posteriors" ] || fail "usage: bash launch/mtat_posteriors.sh DATA (see launch/mtat_stores.sh)"
data=$(cd "$1" && pwd)
make_environment .venv extract
cd "$root"

make_mtat_stores "$data"
"$python" -m fsprobe.sweep --flagfile=launch/mtat_posteriors.cfg
"$python" -m fsprobe.sweep --flagfile=launch/mtat_posteriors.cfg --solver=lbfgs --out=results/mtat_posteriors_lbfgs
"$python" -m fsprobe.report --results=results/mtat_posteriors
"$python" -m fsprobe.report --results=results/mtat_posteriors --results=results/mtat_posteriors_lbfgs \
  --out=results/mtat_posteriors_lbfgs
