#!/usr/bin/env bash
# From nothing to a few-shot table: makes an environment, synthesises a corpus, fetches a pretrained music model (29 MB,
# by pip) and extracts its features and log-mel statistics, trains probes over a grid, prints the results and writes
# results/quickstart/report.html. Under three minutes on two CPU cores after the downloads; run it again and it reuses
# what is there, without a network. Where the model cannot be had it says so and goes on with log-mel alone, in
# results/quickstart_logmel.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment .venv extract
cd "$root"
work=.cache/quickstart
flagfile=launch/quickstart.cfg results=results/quickstart

"$python" -m extract.prepare --dataset=demo --audio_root=$work/audio --out=$work/manifest.csv
extract() { "$python" -m extract.run --manifest=$work/manifest.csv --audio_root=$work/audio --embedding="$1" --store="$work/$1"; }
extract logmel
if "$python" -m extract.weights --embedding=musicnn >/dev/null; then
  extract musicnn
else
  echo "quickstart.sh: going on with log-mel alone" >&2
  flagfile=$work/logmel.cfg results=results/quickstart_logmel
  grep -v -e '=musicnn' -e '^--out=' launch/quickstart.cfg > $flagfile
fi
"$python" -m fsprobe.sweep --flagfile=$flagfile --out=$results
"$python" -m fsprobe.report --results=$results
