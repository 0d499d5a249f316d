#!/bin/sh
# Learner step: this crate against PyTorch eager, step by step in turns in one run, so that both see the same machine.
#
#   host/model/benches/learner_step.sh [PYTHON] [STEPS]
#
# PYTHON (default python3) must have torch. Prints both medians and their ratio (above 1: faster than PyTorch).
set -eu
cd "$(dirname "$0")/../../.."
python=${1:-python3}
steps=${2:-20}
binary=${LEARNER_STEP_BINARY:-}
if [ -z "$binary" ]; then
    binary=$(cargo bench -q -p mmhost-model --bench learner_step --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*learner_step[^"]*\)".*/\1/p' | tail -n 1)
fi
exec "$python" host/model/benches/alternate.py "$steps" "$binary" "$python host/model/benches/learner_step.py"
