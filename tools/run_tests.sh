#!/usr/bin/env bash
# Sets up .venv if need be, then checks the format and runs all default tests.
#
#   bash tools/run_tests.sh [arguments for pytest, e.g. -k matching]
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup_environment.sh
set_up_environment '[dev]'

echo "== Format and lint"
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .

echo "== Tests"
# Two processes, each with whole files: their models are built once per file.
"$PYTHON" -m pytest -n 2 --dist loadfile "$@"
