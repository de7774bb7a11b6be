#!/usr/bin/env bash
# Checks and measures this project on a GPU, in at most eight minutes:
#
#   bash tools/gpu_check.sh [--output_dir=gpu_check] [--seconds=480] [--short]
#
# It needs one NVIDIA GPU and an environment with `pip install '.[gpu]'`: .venv, or the Python that
# FEELVOS_PYTHON names. Writes the table gpu_check.md and the same as gpu_check.json;
# tools/benchmark/gpu_check.py lists the checks. --short does less of each, and also runs on CPUs,
# where only the check "GPUs" fails.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${FEELVOS_PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || python=python3
exec "$python" tools/benchmark/gpu_check.py "$@"
