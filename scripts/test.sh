#!/usr/bin/env bash
# Everything that must pass, cheapest first, on a Debian or Ubuntu machine with nothing but this repository. Installs
# what is missing (and only that) with apt. Ends at the first failure with a line that begins with "failed:".
#
#   scripts/test.sh            all of it
#   scripts/test.sh --quick    formatting, lints and tests only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

is_quick=
for word in "$@"; do
    case $word in
    --quick) is_quick=yes ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) fail "unknown option $word (see --help)" ;;
    esac
done

need_to_build
need python3 python3
need redis-cli redis-tools
need_redis_server
for part in fmt clippy; do
    cargo $part --version >/dev/null 2>&1 || step "Installing cargo $part" rustup component add "${part/fmt/rustfmt}"
done

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} RUST_BACKTRACE=${RUST_BACKTRACE:-1}

step "Formatting" cargo fmt --check
for script in scripts/*.sh .ci/run; do bash -n "$script" || fail "$script does not parse"; done
if command -v shellcheck >/dev/null; then step "Shell scripts" shellcheck -x scripts/*.sh .ci/run; fi
step "Lints" cargo clippy --all-targets --quiet -- -D warnings
[ -n "$is_quick" ] || step "Documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --quiet
step "Building the tests" cargo test --no-run
step "Tests" cargo test
if [ -z "$is_quick" ]; then
    # Without --bench each runs once with tiny sizes: it keeps them alive and measures nothing.
    step "Benches run" cargo test --bench '*' --quiet
    step "Three masters, a partition, agreement" scripts/quickstart.sh --check --debug
fi

printf '\n%sAll passed in %d s.%s\n' "$bold$green" "$SECONDS" "$plain"
