#!/usr/bin/env bash
# Does the simulator notice? Breaks a copy of the code in each of the ways of tests/sim/mutants.txt (one build, the
# breakage picked at run time), and prints after how many runs each is caught. Fails if one is not.
#
#   scripts/mutants.sh [NAME...]     these only
#
# SEEDS=n: give up after so many runs (2000). JOBS=n: on so many cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

case ${1:-} in
-h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
esac
need_to_build
need python3 python3
target=$(realpath "$(target_dir)")
# With a target directory of its own: cargo would take the copy for the original.
copy=$target/mutants build=$target/mutants/target
title "Breaking a copy of the code"
python3 scripts/mutants.py "$copy"
step "Building it" env CARGO_TARGET_DIR="$build" \
    cargo test --manifest-path "$copy/Cargo.toml" --profile sim --test sim --no-run --quiet
program=$(CARGO_TARGET_DIR="$build" cargo test --manifest-path "$copy/Cargo.toml" \
    --profile sim --test sim --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
[ -x "$program" ] || fail "no simulator was built"

seeds=${SEEDS:-2000} jobs=${JOBS:-$(nproc)}
title "Runs until each is caught, at most $seeds"
missed=()
while IFS=$'\t' read -r name what; do
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    began=$SECONDS
    told=$(TUTTI_MUTANT=$name "$program" --seeds "0..$seeds" --jobs "$jobs" --brief || true)
    runs=$(sed -n 's/^sim: \([0-9]*\) runs.*/\1/p' <<<"$told")
    case $told in
    *$'\n'failed:*) good "$(printf '%-14s %5s runs, %3s s  %s' "$name" "${runs:-?}" "$((SECONDS - began))" "$what")" ;;
    *) warn "$(printf '%-14s %5s runs, NOT CAUGHT  %s' "$name" "${runs:-?}" "$what")" && missed+=("$name") ;;
    esac
done <"$copy/names"
[ ${#missed[@]} = 0 ] || fail "not caught within $seeds runs: ${missed[*]}"
