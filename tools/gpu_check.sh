#!/usr/bin/env bash
# Measures what this project does on a GPU, in at most eight minutes:
#
#   bash tools/gpu_check.sh [--output_dir=gpu_check] [--seconds=480] [--short]
#
# It needs one NVIDIA GPU and an environment with `pip install '.[gpu]'`: .venv, or the Python that
# FEELVOS_PYTHON names. gpu_check.md is the table, gpu_check.json the same for programs;
# tools/benchmark/gpu_check.py says what is checked. --short does little of each, and runs on CPUs,
# where "GPUs" is the one check that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${FEELVOS_PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || python=python3
exec "$python" tools/benchmark/gpu_check.py "$@"
