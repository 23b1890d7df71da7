#!/usr/bin/env bash
# Masters in network namespaces of their own, under load by a public client library, while links are slow, lossy or cut
# (also one way) and nodes are killed, frozen and have their clocks moved. Afterwards the nodes must agree, no
# acknowledged write may be missing, no increment missing or counted twice, and nothing deleted may be there again.
# Writes a picture of faults, lag and divergence. The last line is JSON. Needs root.
#
#   scripts/netchaos.sh                     ten minutes on mesh-3, then ten on ring-4 (each node follows one other)
#   scripts/netchaos.sh --topology ring-4 --seconds 60
#   scripts/netchaos.sh --seed 7            the same faults again
#   scripts/netchaos.sh --server PATH       a server that is built already
#   scripts/netchaos.sh --pictures DIR      where netchaos-TOPOLOGY.svg goes; otherwise target/
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

server='' profile=release pictures='' topologies=(mesh-3 ring-4) words=()
while [ $# -gt 0 ]; do
    case $1 in
    --server) server=$(cd "$here" && realpath "${2:?--server needs a path}") && shift ;;
    --profile) profile=${2:?--profile needs a name} && shift ;;
    --pictures) pictures=$(cd "$here" && realpath "${2:?--pictures needs a directory}") && shift ;;
    --topology) topologies=("${2:?--topology needs a name}") && shift ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) words+=("$1") ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail "network namespaces need root: run this as root"
need python3 python3
need ip iproute2
need tc iproute2
need unshare util-linux
python=python3
if ! "$python" -c 'import redis' 2>/dev/null; then
    python=/usr/bin/python3
    "$python" -c 'import redis' 2>/dev/null || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-redis >&2
fi
if [ ! -e "$(dpkg -L libfaketime 2>/dev/null | grep libfaketimeMT | head -1)" ]; then
    apt-get install -y -q --no-install-recommends libfaketime >&2 || warn "no libfaketime: clocks will not jump"
fi
if [ -z "$server" ]; then
    need_to_build
    step "Building tutti-server" cargo build --profile "$profile" --bin tutti-server >&2
    server=$(realpath "$(target_dir)")/${profile/dev/debug}/tutti-server
fi
pictures=${pictures:-$(realpath "$(target_dir)")}
ok=0
for topology in "${topologies[@]}"; do
    title "Chaos in the network: $topology" >&2
    # Everything is in namespaces of this one process tree: whatever ends it, the kernel takes processes, mounts and
    # devices away.
    unshare --net --mount --pid --fork --kill-child --mount-proc \
        "$python" scripts/netchaos.py --server "$server" --topology "$topology" \
        --picture "$pictures/netchaos-$topology.svg" ${words[@]+"${words[@]}"} || ok=1
done
exit $ok
