# The set-up that quickstart.sh and run_tests.sh share. To be sourced from the project root.
#
#   set_up_environment EXTRAS MODULE...
#
# makes .venv in the project root unless it exists, installs the project into it (EXTRAS is '' or
# '[dev]') unless that was done for this setup.py, and leaves the interpreter in $PYTHON.
# FEELVOS_PYTHON=/path/to/python picks the Python that the environment is made with;
# FEELVOS_VENV=DIR puts the environment elsewhere.

fail() {
  echo "error: $*" >&2
  exit 1
}

# Prints the first Python that can be used; nothing if there is none.
find_python() {
  local candidate
  for candidate in ${FEELVOS_PYTHON:+"$FEELVOS_PYTHON"} python3.11 python3.10 python3.9 python3 python; do
    if is_suitable "$candidate"; then
      echo "$candidate"
      return
    fi
    [ -z "${FEELVOS_PYTHON:-}" ] || return 0
  done
}

is_suitable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' \
    > /dev/null 2>&1
}

set_up_environment() {
  local extras=$1 venv=${FEELVOS_VENV:-.venv} base stamp
  PYTHON=$venv/bin/python
  if [ ! -x "$PYTHON" ]; then
    base=$(find_python)
    [ -n "$base" ] || fail "$(describe_missing_python)"
    echo "== Making a virtual environment in $venv with $("$base" --version)"
    "$base" -m venv "$venv" || fail "the virtual environment in $venv could not be made"
  fi
  stamp=$venv/.feelvos-installed
  if ! is_installed "$stamp" "$extras"; then
    echo "== Installing feelvos_tf$extras and what it needs (TensorFlow is about 500 MB)"
    rm -f "$stamp"
    "$PYTHON" -m pip install --disable-pip-version-check --no-compile \
      -e ".$extras" \
      || fail "pip could not install the project; its message above says what it lacks"
    { cat setup.py; echo "extras: $extras"; } > "$stamp"
  fi
  # TensorFlow's start-up messages hide what matters.
  export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} PYTHONUNBUFFERED=1
}

# Tells whether the stamp holds this setup.py, with the same extras or with [dev], which has all.
is_installed() {
  [ -f "$1" ] || return 1
  { cat setup.py; echo "extras: $2"; } | cmp -s - "$1" \
    || { cat setup.py; echo "extras: [dev]"; } | cmp -s - "$1"
}

describe_missing_python() {
  if [ -n "${FEELVOS_PYTHON:-}" ]; then
    echo "FEELVOS_PYTHON=$FEELVOS_PYTHON is not a Python 3.9, 3.10 or 3.11 with the venv module."
  else
    echo "Python 3.9, 3.10 or 3.11 with the venv module is needed and none was found on the PATH" \
      "(on Debian and Ubuntu: apt-get install python3.11 python3.11-venv); one that lies elsewhere" \
      "is given as FEELVOS_PYTHON=/path/to/python."
  fi
}
