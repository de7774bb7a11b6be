# The set-up of an environment, shared by the scripts here. Source it from the project root.
#
#   set_up_environment EXTRAS VENV VERSION...
#
# creates the virtual environment VENV unless it exists, with the first of these Python VERSIONs (3.13,
# 3.12, ...) that is available; installs the project into it (EXTRAS is '' or '[dev]') unless that was
# done for this setup.py; prints the versions; and sets $PYTHON to the interpreter.
# FEELVOS_PYTHON=/path/to/python selects the Python to create the environment with;
# FEELVOS_VENV=DIR puts the environment elsewhere.

# Python 3.12 and later get the newest TensorFlow with Keras 3, earlier ones TensorFlow 2.15 with
# Keras 2 and the add-ons: see setup.py.
NEWEST_PAIR="3.13 3.12"
OLDER_PAIR="3.11 3.10 3.9"

fail() {
  echo "error: $*" >&2
  exit 1
}

# Prints the interpreter of the first usable Python version; nothing if there is none.
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

# Succeeds if a Python is one of the versions and can create virtual environments.
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
    echo "== Creating a virtual environment in $venv with $("$base" --version)"
    "$base" -m venv "$venv" || fail "the virtual environment in $venv could not be created"
  fi
  stamp=$venv/.feelvos-installed
  if ! is_installed "$stamp" "$extras"; then
    echo "== Installing feelvos_tf$extras and its dependencies: about 500 MB of TensorFlow, and two minutes" \
      "on two cores after the download"
    rm -f "$stamp"
    # With bytecode: if Python must not write any later (PYTHONDONTWRITEBYTECODE, as in many containers),
    # every start would otherwise compile TensorFlow again, which takes ten seconds.
    "$PYTHON" -m pip install --disable-pip-version-check --compile \
      -e ".$extras" \
      || fail "pip could not install the project; see its message above"
    { cat setup.py; echo "extras: $extras"; } > "$stamp"
  fi
  # TensorFlow's start-up messages would hide ours.
  export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} PYTHONUNBUFFERED=1
  echo "== $venv: $("$PYTHON" --version), TensorFlow $(installed_version tensorflow)," \
    "Keras $(installed_version keras)"
}

# Prints the version of an installed package without importing it.
installed_version() {
  "$PYTHON" -c "import importlib.metadata as m; print(m.version('$1'))"
}

# Succeeds if the stamp holds this setup.py, with the same extras or with [dev], which includes all.
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
      "(on Debian and Ubuntu: apt-get install python3 python3-venv); to use one elsewhere, set" \
      "FEELVOS_PYTHON=/path/to/python."
  fi
}

# Prints "3.13, 3.12 or 3.11".
join() {
  local list
  printf -v list '%s, ' "${@:1:$#-1}"
  echo "${list%, } or ${*: -1}"
}
