#!/usr/bin/env bash
# Three masters with a million keys: how long MULTIMASTER VERIFY takes, how much it slows clients, whether it finds and
# repairs damaged keys, and what the digests behind it cost a SET. Prints a line per figure with its target and, as its
# last line, JSON; ends with 1 when something was not found or not repaired.
#
#   scripts/verify.sh                       everything: about five minutes
#   scripts/verify.sh --quick               100,000 keys, short runs
#   scripts/verify.sh --parts cost          of cost, time, load, damage
#   scripts/verify.sh --parts cost --runs 20
#   scripts/verify.sh --server PATH         a server that is built already
#
# What digests cost is measured with benches/load.rs, the server on the first core and the load on the last, digests on
# and off in turn; the load beside a VERIFY is redis-benchmark.
#
# "ok" marks what meets its target, "--" what does not. Times and shares mean little while other programs keep the
# machine busy; CPU per request and per comparison mean more.
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

server='' profile=release words=()
while [ $# -gt 0 ]; do
    case $1 in
    --server) server=$(cd "$here" && realpath "${2:?--server needs a path}") && shift ;;
    --profile) profile=${2:?--profile needs a name} && shift ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) words+=("$1") ;;
    esac
    shift
done
need python3 python3
need taskset util-linux
need redis-benchmark redis-tools
need_to_build
built=$(realpath -m "$(target_dir)")/${profile/dev/debug}
what=(--bench load)
[ -n "$server" ] || what+=(--bin tutti-server)
step "Building" cargo build --profile "$profile" "${what[@]}" >&2
server=${server:-$built/tutti-server}
load=$(find "$built/deps" -maxdepth 1 -name 'load-*' -type f -executable -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
[ -n "$load" ] || fail "cargo built no loader"
title "Comparing nodes" >&2
exec python3 scripts/verify.py --server "$server" --load "$load" ${words[@]+"${words[@]}"}
