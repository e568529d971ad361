#!/usr/bin/env bash
# Two launchers on this machine, as if it were two nodes. Further arguments go to both, for instance epochs=2.
set -euo pipefail
examples=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}

export ENDPOINT=${ENDPOINT:-localhost:29500}
sweep=${SWEEP_DIR:-multirun/several_nodes}
node() {
  exec "$python" "$examples/digits/train.py" -m --config-dir "$examples/several_nodes/conf" launch=two_nodes device=cpu \
    hydra.sweep.dir="$sweep/node$1" "${@:2}" > >(sed -u "s/^/node $1: /") 2>&1
}

(node 1 "$@") &
second=$!
trap 'kill "$second" 2>/dev/null || true' EXIT
(node 0 "$@")
wait "$second"
