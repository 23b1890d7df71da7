#!/usr/bin/env bash
# Three masters with a million keys: how long MULTIMASTER VERIFY takes, how much it slows clients, whether it finds and
# repairs damaged keys, and what the digests behind it cost a SET. Prints a line per figure with its target and, as its
# last line, JSON; ends with 1 when a target is missed.
#
#   scripts/verify.sh                       everything: about seven minutes
#   scripts/verify.sh --quick               100,000 keys, short runs; ends with 1 only when damage was not found
#   scripts/verify.sh --parts cost          of cost, time, load, flood, damage
#   scripts/verify.sh --parts cost --rounds 200
#   scripts/verify.sh --server PATH         a server that is built already
#
# What runs where: the node that is asked and measured has the first core for itself. The other nodes share the last
# one with the load, which may take it whenever it wants to (if this user may say so), because clients are elsewhere in
# life: a VERIFY reads the data of two nodes on that core, so it takes longer here than on three machines.
#
# cost    benches/load.rs floods one node, digests on and off in short turns.
# time    nodes that have nothing else to do.
# load    benches/paced.rs sends SETs in pipelines of 16, as many as leave both cores half of their time, VERIFY or not.
# flood   benches/load.rs sends as fast as it can, which is more than the other nodes take: no target.
# damage  DEBUG DAMAGE alters values, stamps and takes keys away on one node.
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
    -h | --help) sed -n '2,26s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) words+=("$1") ;;
    esac
    shift
done
need python3 python3
need taskset util-linux
need_to_build
built=$(realpath -m "$(target_dir)")/${profile/dev/debug}
what=(--bench load --bench paced)
[ -n "$server" ] || what+=(--bin tutti-server)
step "Building" cargo build --profile "$profile" "${what[@]}" >&2
server=${server:-$built/tutti-server}
newest() { find "$built/deps" -maxdepth 1 -name "$1-*" -type f -executable -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-; }
load=$(newest load) paced=$(newest paced)
[[ -n $load && -n $paced ]] || fail "cargo built no clients"
title "Comparing nodes" >&2
exec python3 scripts/verify.py --server "$server" --load "$load" --paced "$paced" ${words[@]+"${words[@]}"}
