#!/usr/bin/env bash
# From nothing to a few-shot table: makes an environment, synthesises a corpus, extracts log-mel features, trains
# probes over a grid, prints the result and writes results/quickstart/report.html. No model weights, no data set. Under
# three minutes on two CPU cores after the downloads; run it again and it reuses what is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment .venv extract
cd "$root"
work=.cache/quickstart

"$python" -m extract.prepare --dataset=demo --audio_root=$work/audio --out=$work/manifest.csv
"$python" -m extract.run --manifest=$work/manifest.csv --audio_root=$work/audio --embedding=logmel --store=$work/logmel
"$python" -m fsprobe.sweep --flagfile=launch/quickstart.cfg
"$python" -m fsprobe.report --results=results/quickstart
