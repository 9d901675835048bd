#!/usr/bin/env bash
# A node of a Ray cluster on this machine. bash launch/ray.sh starts the first and says how others join; bash
# launch/ray.sh HOST:PORT joins it; bash launch/ray.sh stop ends this machine's. Further arguments go to `ray start`
# (--num-cpus=8, --port=6380 for the first). Then, on any node: python -m extract.run … --engine=ray --ray_address=auto.
# Set FSPROBE_PYTHON if the environment is not .venv.
set -euo pipefail
python=${FSPROBE_PYTHON:-.venv/bin/python}
ray() { "$python" -c 'import sys; from ray.scripts.scripts import main; sys.exit(main())' "$@"; }

"$python" -c 'from extract.cluster import available; available()' 2>/dev/null ||
  { echo "ray.sh: $python has no Ray: pip install 'fsprobe[ray]', or set FSPROBE_PYTHON" >&2; exit 2; }
export RAY_USAGE_STATS_ENABLED=0 # nothing is reported to anybody
# Nodes know each other by a token in ~/.ray/auth_token, the same on every machine: copy the first's where homes differ.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
address=${1:-}
[[ $# == 0 ]] || { [[ $address == -* ]] && address= || shift; }
case $address in
  stop) ray stop ;;
  '') ray get-auth-token --generate >/dev/null 2>&1 || true # Ray before 2.52 has no tokens
      ray start --head --include-dashboard=false "$@" ;;
  *:*) ray start --address="$address" "$@" ;;
  *) echo "ray.sh: $address: name the first node as HOST:PORT, or nothing to start one" >&2; exit 2 ;;
esac
