#!/usr/bin/env bash
# Sets up an environment for each pair of Python and TensorFlow if needed, checks the format, and runs
# all default tests on both pairs.
#
#   bash tools/run_tests.sh [arguments for pytest, e.g. -k matching]
#
# FEELVOS_PAIR=newest or FEELVOS_PAIR=older runs one of them. If a pair's Python is missing, its tests
# are skipped with a message; with CI=true, this is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup_environment.sh

run_pair() {
  local pair=$1 versions
  [ "$pair" = newest ] && versions=$NEWEST_PAIR || versions=$OLDER_PAIR
  # shellcheck disable=SC2086 # One argument per version.
  if [ ! -x ".venv-$pair/bin/python" ] && [ -z "$(find_python $versions)" ]; then
    [ "${CI:-}" != true ] || fail "$(describe_missing_python $versions)"
    echo "== Skipped: the tests on the $pair pair. $(describe_missing_python $versions)"
    return
  fi
  # shellcheck disable=SC2086
  set_up_environment '[dev]' ".venv-$pair" $versions
  ran=$((ran + 1))
  if [ "$ran" = 1 ]; then
    echo "== Format and lint"
    "$PYTHON" -m ruff format --check .
    "$PYTHON" -m ruff check .
  fi
  echo "== Tests on the $pair pair"
  # Two processes, each with whole files, whose models are built once per file. Files keep the order of
  # the folders: sorted by number of tests, those with a single long test would all come last.
  "$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "${@:2}"
}

ran=0
case "${FEELVOS_PAIR:-both}" in
  both)
    run_pair newest "$@"
    run_pair older "$@"
    ;;
  newest | older) run_pair "$FEELVOS_PAIR" "$@" ;;
  *) fail "FEELVOS_PAIR: expected newest, older or nothing, found $FEELVOS_PAIR" ;;
esac
[ "$ran" -gt 0 ] || fail "no test was run"
