#!/usr/bin/env bash
# Masters in network namespaces of their own, under load by a public client library, while links are slow, lossy or cut
# (also one way) and nodes are killed, frozen and have their clocks moved. Afterwards the nodes must agree, no
# acknowledged write may be missing, no increment missing or counted twice, and nothing deleted may be there again.
# Writes a picture of faults, lag and divergence. The last line is JSON. Needs root. Links are veth pairs with netem, or,
# where the kernel has no netem, TUN devices between which a program of ours delays and drops packets; either way they
# are measured before they are used.
#
#   scripts/netchaos.sh                     ten minutes on mesh-3, then ten on ring-4 (each node follows one other)
#   scripts/netchaos.sh --topology ring-4 --seconds 60
#   scripts/netchaos.sh --seed 7            the same faults again
#   scripts/netchaos.sh --server PATH       a server that is built already
#   scripts/netchaos.sh --pictures DIR      where netchaos-TOPOLOGY.svg goes; otherwise target/
#   scripts/netchaos.sh --keep              keeps data and logs, as is done after a failure, and says where
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

server='' profile=release pictures='' keep='' topologies=(mesh-3 ring-4) words=()
while [ $# -gt 0 ]; do
    case $1 in
    --server) server=$(cd "$here" && realpath "${2:?--server needs a path}") && shift ;;
    --profile) profile=${2:?--profile needs a name} && shift ;;
    --pictures) pictures=$(cd "$here" && realpath "${2:?--pictures needs a directory}") && shift ;;
    --topology) topologies=("${2:?--topology needs a name}") && shift ;;
    --keep) keep=yes ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) words+=("$1") ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail "network namespaces need root: run this as root"
need python3 python3
need ip iproute2
need tc iproute2
need unshare util-linux
# A public client library, of whichever Python there is; Debian's is for Debian's.
python=python3
has_redis() { "$python" -c 'import redis' 2>/dev/null; }
has_redis || python=/usr/bin/python3
has_redis || install_package python3-redis
has_redis || fail "python3-redis is installed, but $python does not find it"
has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }
has_faketime || install_package libfaketime || warn "no libfaketime: clocks will not jump"
if [ -z "$server" ]; then
    need_to_build
    step "Building tutti-server" cargo build --profile "$profile" --bin tutti-server >&2
    server=$(realpath "$(target_dir)")/${profile/dev/debug}/tutti-server
fi
pictures=${pictures:-$(realpath "$(target_dir)")}
mkdir -p "$pictures"

# Everything is in namespaces of one process tree: whatever ends its head, the kernel ends the rest and takes mounts,
# links and devices away. What is left is the directory, which the processes may fill until they are gone.
work=$(mktemp -d "${TMPDIR:-/tmp}/tutti-netchaos.XXXXXX") head=''
# shellcheck disable=SC2317
tidy_up() {
    if [ -n "$head" ]; then { kill -KILL "$head" && wait "$head"; } 2>/dev/null || true; fi
    if [ -n "$keep" ]; then note "data and logs are in $work" >&2 && return; fi
    local tries=100
    until rm -rf "$work" 2>/dev/null || [ $((tries -= 1)) = 0 ]; do sleep 0.1; done
}
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

status=0
for topology in "${topologies[@]}"; do
    title "Chaos in the network: $topology" >&2
    mkdir "$work/$topology"
    unshare --net --mount --pid --fork --kill-child --mount-proc \
        "$python" scripts/netchaos.py --server "$server" --topology "$topology" --work "$work/$topology" \
        --picture "$pictures/netchaos-$topology.svg" ${words[@]+"${words[@]}"} &
    head=$!
    wait "$head" || status=1 keep=yes
    head=''
done
exit $status
