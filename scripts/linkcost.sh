#!/usr/bin/env bash
# What links cost: five masters in a full mesh, every link counted byte by byte on its way. Whether each write crosses each link at
# most once, what an idle link says, and what a node that returns is sent for the writes it missed, after different
# ways of being away. Prints a table and, as its last line, JSON; ends with 1 when a bound is missed.
#
#   scripts/linkcost.sh                     everything: about three minutes
#   scripts/linkcost.sh --quick             20,000 writes, shorter waits
#   scripts/linkcost.sh --parts idle        of once, idle, return
#   scripts/linkcost.sh --ways kill,cut     of term, kill, remove, cut, restart, backlog
#   scripts/linkcost.sh --threads 2         cores of each node
#   scripts/linkcost.sh --server PATH       a server that is built already
#
# The base of what a return may cost is what the same number of writes took on one link while all were linked.
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
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) words+=("$1") ;;
    esac
    shift
done
need python3 python3
if [ -z "$server" ]; then
    need_to_build
    step "Building tutti-server" cargo build --profile "$profile" --bin tutti-server >&2
    server=$(realpath "$(target_dir)")/${profile/dev/debug}/tutti-server
fi
title "What links cost" >&2
exec python3 scripts/linkcost.py --server "$server" ${words[@]+"${words[@]}"}
