#!/usr/bin/env bash
# tutti-server against the distribution's redis-server: the server alone on one core, the load on another, 50
# connections, 64-byte values, the two servers taking turns. Prints a table and, as its last line, one line of JSON.
#
#   scripts/bench.sh                     everything, 5 runs each: about sixteen minutes
#   scripts/bench.sh --quick             2 short runs each
#   scripts/bench.sh --parts load        of load, latency, shards, memory
#   scripts/bench.sh --commands get,set --pipelines 16 --runs 3
#   scripts/bench.sh --server PATH       a server that is built already
#   scripts/bench.sh --loader redis-benchmark
#
# The load is benches/load.rs: redis-benchmark spends more on a request than the servers do, so its requests per second
# are its own.
#
# CPU is user and system time of the server process per request (its CPU clock); figures are medians; "ok" marks
# what meets its target, "--" what does not.
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
    -h | --help) sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) words+=("$1") ;;
    esac
    shift
done

need python3 python3
need taskset util-linux
need redis-benchmark redis-tools
need_redis_server
need_to_build
target=$(realpath -m "$(target_dir)")
built=$target/${profile/dev/debug}
what=(--bench paced --bench load)
[ -n "$server" ] || what+=(--bin tutti-server)
step "Building" cargo build --profile "$profile" "${what[@]}" >&2
server=${server:-$built/tutti-server}
newest() {
    find "$built/deps" -maxdepth 1 -name "$1-*" -type f -executable -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-
}
paced=$(newest paced) load=$(newest load)
[[ -n $paced && -n $load ]] || fail "cargo built no clients"

title "Measuring: $("$server" --version | head -1) against $(redis-server --version | cut -d' ' -f1-3)" >&2
python3 scripts/bench.py --server "$server" --paced "$paced" --load "$load" ${words[@]+"${words[@]}"}
