# Sourced by the scripts beside it: `make_environment DIR EXTRAS [SIZE [FIRST]]` leaves $python pointing at a virtual
# environment with this checkout installed. Once made, it is reused without a network until pyproject.toml changes.
# SIZE: of the download, for the message. FIRST: a command to run in the bare environment.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# An argument that names a file or folder, relative to where the script was called, not to $root.
from_here() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

fail() { echo "$(basename "$0"): $*" >&2; exit 2; }

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null &&
       "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  fail "no Python 3.11 or newer with venv found; install one (Debian: apt install python3-venv) or set PYTHON="
}

make_environment() {
  local venv=$root/$1 extras=$2 size=${3:-250 MB} first=${4:-true} stamp
  stamp="$extras $root $(sha256sum < "$root/pyproject.toml")"
  python=$venv/bin/python
  if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    local base; base=$(find_python)
    echo "Making $venv ($extras); this downloads about $size once." >&2
    "$base" -m venv --clear "$venv"
    "$first"
    "$python" -m pip install -qq --disable-pip-version-check --editable "$root[$extras]" ||
      fail "pip could not install $root[$extras]; is a package index reachable?"
    echo "$stamp" > "$venv/stamp"  # last: an interrupted installation starts over
  fi
}

# `extract_store STORE FLAG…`: extract.run into STORE. Clips that cannot be decoded are listed there, and sweeps leave them
# out with --missing=drop; clips that are not done stop the script.
extract_store() {
  local store=$1 code=0 said; shift
  "$python" -m extract.run --store="$store" "$@" || code=$?
  [ $code -le 1 ] || exit $code  # 1: some clips failed, or a bug, which leaves clips pending
  said=$("$python" -m extract.verify --store="$store") || fail "$store is not sound (extract.run ended with $code)"
  echo "$said"
  ! grep -q '[1-9][0-9]* pending' <<<"$said" || fail "$store is incomplete (extract.run ended with $code)"
}
