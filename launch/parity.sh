#!/usr/bin/env bash
# Hold the models in JAX against their packages: make an environment with torch, TensorFlow, torchvggish, openl3,
# torchopenl3, hear21passt and what runs the graph of musicnn (3 GB), then run tests/parity. Arguments go to pytest:
# launch/parity.sh -k passt -s
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

bare_environment() {
  "$python" -m pip install --quiet --disable-pip-version-check "setuptools<81" wheel "pytest>=8"
  # openl3 without its weights, and never cached: pip would hand that wheel to whoever wants the real one
  PYTHONPATH=$root/tests/parity/no_weights "$python" -m pip install --quiet --disable-pip-version-check \
    --no-cache-dir --no-deps --no-build-isolation openl3==0.4.2 || fail "openl3 does not build"
}

make_environment .venv-parity extract,vggish,openl3,torchopenl3,passt,musicnn "1 to 3 GB" bare_environment
cd "$root"
export FSPROBE_PARITY=required  # a package that does not import is an error, not a skip
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$python" -m pytest tests/parity "$@"
