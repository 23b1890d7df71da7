#!/usr/bin/env bash
# Hunts divergence: many simulated runs on all cores, each from its number; then a table of what was exercised.
# A run that fails is made short and told with the command that replays it.
#
#   scripts/sim.sh [COUNT] [FIRST]     runs COUNT (20000) from number FIRST (0) on
#   scripts/sim.sh --seed N [...]      one run; see the head of tests/sim/main.rs for --keep and --trace
#
# JOBS=n: on so many cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

case ${1:-} in
-h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
esac
need_to_build
step "Building" cargo test --profile sim --test sim --no-run --quiet
if [[ ${1:-} == --* ]]; then
    exec cargo test --profile sim --test sim --quiet -- "$@"
fi
count=${1:-20000} first=${2:-0} jobs=${JOBS:-$(nproc)}
full=()
[ "$count" -lt 5000 ] || full=(--full)
step "$count runs, $jobs at a time" \
    cargo test --profile sim --test sim --quiet -- --seeds "$first..$((first + count))" --jobs "$jobs" ${full[@]+"${full[@]}"}
