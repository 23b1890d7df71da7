#!/usr/bin/env bash
# Three masters under load while one of them, chosen at random, is killed (and started again on its data, or empty) or
# frozen, every 20 seconds. Afterwards the nodes must agree, every answered write of a node that kept running must be
# there, no increment may be missing or counted twice, and memory must be bounded. The last line is JSON.
#
#   scripts/chaos.sh                        ten minutes
#   scripts/chaos.sh --seconds 60 --every 8 --freeze 6
#   scripts/chaos.sh --faults freeze        of kill, wipe, freeze
#   scripts/chaos.sh --seed 7               the same choices again
#   scripts/chaos.sh --server PATH          a server that is built already
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
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
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
title "Chaos" >&2
exec python3 scripts/chaos.py --server "$server" ${words[@]+"${words[@]}"}
