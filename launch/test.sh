#!/usr/bin/env bash
# Make the development environment, then lint, type-check and test: the fast part, everything that a change can break.
# --all adds the slow part: kills at many moments, several devices and processes, the browser, the fuzz test of audio.
# Other arguments go to pytest: launch/test.sh -k metrics
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment .venv-dev extract,review,dev
cd "$root"
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$root/.cache/jax}  # tests compile the same programs
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1
export JAX_COMPILATION_CACHE_MAX_SIZE=1000000000  # with a limit JAX locks it, and workers can share it

which=(-m "not slow")
if [ "${1:-}" = --all ]; then which=(); shift; fi
"$python" -m ruff check .
"$python" -m ruff format --check --quiet .
"$python" -m mypy
# launch/parity.sh runs tests/parity
"$python" -m pytest -n "$(nproc)" --dist=worksteal --ignore=tests/parity "${which[@]}" "$@"
