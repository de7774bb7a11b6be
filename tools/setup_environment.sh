# The set-up that quickstart.sh and run_tests.sh share. To be sourced from the project root.
#
#   set_up_environment EXTRAS VENV VERSION...
#
# makes the virtual environment VENV unless it exists, with the first Python of these VERSIONs
# (3.13, 3.12, ...) that is there; installs the project into it (EXTRAS is '' or '[dev]') unless
# that was done for this setup.py; says what it chose; and leaves the interpreter in $PYTHON.
# FEELVOS_PYTHON=/path/to/python picks the Python that the environment is made with;
# FEELVOS_VENV=DIR puts the environment elsewhere.

# Python 3.12 and later get today's TensorFlow with Keras 3, earlier ones TensorFlow 2.15 with
# Keras 2 and the add-ons: see setup.py.
NEWEST_PAIR="3.13 3.12"
OLDER_PAIR="3.11 3.10 3.9"

fail() {
  echo "error: $*" >&2
  exit 1
}

# Prints the first of the Python versions that can be used; nothing if there is none.
find_python() {
  local version candidate
  if [ -n "${FEELVOS_PYTHON:-}" ]; then
    ! is_suitable "$FEELVOS_PYTHON" "$@" || echo "$FEELVOS_PYTHON"
    return
  fi
  for version in "$@"; do
    for candidate in "python$version" python3 python \
      "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
      if is_suitable "$candidate" "$version"; then
        echo "$candidate"
        return
      fi
    done
  done
}

# Tells whether a Python is one of the versions and can make virtual environments.
is_suitable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv)' \
    "${@:2}" > /dev/null 2>&1
}

set_up_environment() {
  local extras=$1 venv=${FEELVOS_VENV:-$2} base stamp
  PYTHON=$venv/bin/python
  if [ ! -x "$PYTHON" ]; then
    base=$(find_python "${@:3}")
    [ -n "$base" ] || fail "$(describe_missing_python "${@:3}")"
    echo "== Making a virtual environment in $venv with $("$base" --version)"
    "$base" -m venv "$venv" || fail "the virtual environment in $venv could not be made"
  fi
  stamp=$venv/.feelvos-installed
  if ! is_installed "$stamp" "$extras"; then
    echo "== Installing feelvos_tf$extras and its dependencies: some 500 MB of TensorFlow, and two minutes" \
      "on two cores once they are downloaded"
    rm -f "$stamp"
    # Bytecode included: where Python must not write any (PYTHONDONTWRITEBYTECODE, as in many
    # containers), every start would otherwise compile TensorFlow again, for ten seconds.
    "$PYTHON" -m pip install --disable-pip-version-check --compile \
      -e ".$extras" \
      || fail "pip could not install the project; its message above says what it lacks"
    { cat setup.py; echo "extras: $extras"; } > "$stamp"
  fi
  # TensorFlow's start-up messages hide what matters.
  export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} PYTHONUNBUFFERED=1
  echo "== $venv: $("$PYTHON" --version), TensorFlow $(installed_version tensorflow)," \
    "Keras $(installed_version keras)"
}

# Prints the version of an installed package without importing it.
installed_version() {
  "$PYTHON" -c "import importlib.metadata as m; print(m.version('$1'))"
}

# Tells whether the stamp holds this setup.py, with the same extras or with [dev], which has all.
is_installed() {
  [ -f "$1" ] || return 1
  { cat setup.py; echo "extras: $2"; } | cmp -s - "$1" \
    || { cat setup.py; echo "extras: [dev]"; } | cmp -s - "$1"
}

describe_missing_python() {
  if [ -n "${FEELVOS_PYTHON:-}" ]; then
    echo "FEELVOS_PYTHON=$FEELVOS_PYTHON is not a Python $(join "$@") with the venv module."
  else
    echo "Python $(join "$@") with the venv module is needed and none was found on the PATH" \
      "(on Debian and Ubuntu: apt-get install python3 python3-venv); one that lies elsewhere" \
      "is given as FEELVOS_PYTHON=/path/to/python."
  fi
}

# Prints "3.13, 3.12 or 3.11".
join() {
  local list
  printf -v list '%s, ' "${@:1:$#-1}"
  echo "${list%, } or ${*: -1}"
}
