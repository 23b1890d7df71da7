#!/usr/bin/env bash
# From a fresh Debian or Ubuntu to three masters that agree: installs what is missing, builds the server, starts
# config/peer-a.conf, peer-b.conf and peer-c.conf on this machine, writes on each, cuts one off, writes on both sides,
# heals the cut and shows that all three hold the same data. Then they stay up for you until Ctrl-C.
#
#   scripts/quickstart.sh                three masters on ports 6379, 6380 and 6381
#   scripts/quickstart.sh --port 7000    on 7000, 7001 and 7002
#   scripts/quickstart.sh --check        stops them afterwards; exit code 0 if they agreed, else 1
#   scripts/quickstart.sh --debug        builds without optimisation, which is quicker
#   scripts/quickstart.sh --server PATH  uses a server that is built already
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

is_check='' profile=release server='' first_port=''
while [ $# -gt 0 ]; do
    case $1 in
    --check) is_check=yes ;;
    --debug) profile=dev ;;
    --quick) profile=quick ;;
    --port) first_port=${2:?--port needs a number} && shift ;;
    --server) server=$(cd "$here" && realpath "${2:?--server needs a path}") && shift ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done

need redis-cli redis-tools
if [ -z "$server" ]; then
    need_to_build
    [ $profile = release ] && took='about five minutes on two cores the first time' || took='a few minutes the first time'
    step "Building tutti-server ($took)" cargo build --profile "$profile" --bin tutti-server
    server=$(realpath "$(target_dir)")/${profile/dev/debug}/tutti-server
fi

names=(a b c)
if [ -n "$first_port" ]; then
    ports=("$first_port" $((first_port + 1)) $((first_port + 2)))
    for port in "${ports[@]}"; do port_is_free "$port" || fail "port $port is taken: choose others with --port"; done
else
    ports=(6379 6380 6381)
    if ! { port_is_free 6379 && port_is_free 6380 && port_is_free 6381; }; then
        need python3 python3
        ports=("$(free_port)" "$(free_port)" "$(free_port)")
        note "6379, 6380 or 6381 is taken, so these masters listen on ${ports[*]}"
    fi
fi
export REDISCLI_AUTH=mypassword123

data=$(mktemp -d "${TMPDIR:-/tmp}/tutti-quickstart.XXXXXX")
finish() {
    local code=$?
    trap - EXIT INT TERM
    stop_all
    if [ $code != 0 ] && [ $code != 130 ] && [ -d "$data" ]; then
        for name in "${names[@]}"; do
            warn "last lines of master $name:"
            tail -n 8 "$data/$name/log" >&2 2>/dev/null || true
        done
    fi
    rm -rf "$data"
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

index_of() { case $1 in a) echo 0 ;; b) echo 1 ;; c) echo 2 ;; esac }
port_of() { echo "${ports[$(index_of "$1")]}"; }
# on NODE COMMAND...: a command on a master, its reply on standard output.
on() {
    local port
    port=$(port_of "$1")
    shift
    redis-cli --no-auth-warning -h 127.0.0.1 -p "$port" "$@"
}
# show NODE COMMAND...: the same, told to the reader.
show() {
    local reply word words=''
    reply=$(on "$@")
    for word in "${@:2}"; do case $word in *' '*) words+=" \"$word\"" ;; *) words+=" $word" ;; esac; done
    printf '    %s%s>%s%-44s %s%s%s\n' "$bold" "$1" "$plain" "$words" "$dim" "$(echo "$reply" | paste -sd' ')" "$plain"
    case $reply in ERR* | NOAUTH* | WRONGPASS* | READONLY* | LOADING* | *'unknown command'*) fail "$1 answered: $reply" ;; esac
}

# until_true SECONDS WHAT COMMAND...: waits for it, at most that long.
until_true() {
    local most=$1 what=$2 began=$SECONDS
    shift 2
    until "$@"; do
        [ $((SECONDS - began)) -lt "$most" ] || fail "$what: not within $most s"
        sleep 0.1
    done
}
answers() { [ "$(on "$1" PING 2>/dev/null)" = PONG ]; }
# Whether a master has so many links, all of them up.
has_links() {
    local lines
    lines=$(on "$1" INFO replication 2>/dev/null | tr -d '\r' | grep -E '^master[0-9_]*link_status:' || true)
    [ "$(grep -c ':up$' <<<"$lines")" = "$2" ] && ! grep -q ':down$' <<<"$lines"
}
all_linked() { has_links a 2 && has_links b 2 && has_links c 2; }
digests() { for name in "${names[@]}"; do on "$name" DEBUG DIGEST; done; }
a_and_b_agree() { [ "$(on a DEBUG DIGEST)" = "$(on b DEBUG DIGEST)" ]; }
agree() { [ "$(digests | sort -u | wc -l)" = 1 ]; }

title "Starting three masters"
for name in "${names[@]}"; do
    mkdir "$data/$name"
    flags=(--port "$(port_of "$name")" --bind 127.0.0.1 --dir "$data/$name" --enable-debug-command local)
    flags+=(--server-threads 1 --server-thread-affinity no)
    if [ "${ports[*]}" != "6379 6380 6381" ]; then
        flags+=(--replicaof no one)
        for other in "${names[@]}"; do
            [ "$other" = "$name" ] || flags+=(--replicaof 127.0.0.1 "$(port_of "$other")")
        done
    fi
    "$server" "config/peer-$name.conf" "${flags[@]}" >"$data/$name/log" 2>&1 </dev/null &
    started_pids+=($!)
    note "master $name: tutti-server config/peer-$name.conf, port $(port_of "$name"), process $!"
done
for name in "${names[@]}"; do until_true 20 "master $name answers" answers "$name"; done
until_true 30 "all links are up" all_linked
good "every master is linked with the two others"

title "A write on any master is everywhere"
show a SET greeting hello
show b SET page:title Tutti
show c HSET user:1 name Ada
show a INCRBY visits 10
show a SET draft "to be deleted"
until_true 10 "the masters agree" agree
show b GET greeting
show c GET page:title
show a HGETALL user:1
show c GET visits

title "Cutting c off: it can no longer reach a and b, nor they it"
on c REPLICAOF REMOVE 127.0.0.1 "$(port_of a)" >/dev/null
on c REPLICAOF REMOVE 127.0.0.1 "$(port_of b)" >/dev/null
on a REPLICAOF REMOVE 127.0.0.1 "$(port_of c)" >/dev/null
on b REPLICAOF REMOVE 127.0.0.1 "$(port_of c)" >/dev/null
until_true 10 "the links to c are gone" has_links a 1
until_true 10 "the links of c are gone" has_links c 0

note "both sides go on taking writes"
show a INCRBY visits 5
show b INCRBY visits 2
show c INCRBY visits 30
show c SET greeting "from c"
sleep 0.05
show a SET greeting "from a, later"
show b HSET user:1 city London
show c HSET user:1 born 1815
show c DEL draft
until_true 10 "a and b agree" a_and_b_agree
note "and differ"
show b GET visits
show c GET visits
show b GET draft
show c GET draft
if agree; then fail "the masters agree while c is cut off: the cut does not cut"; fi

title "Healing the cut"
on c REPLICAOF 127.0.0.1 "$(port_of a)" >/dev/null
on c REPLICAOF 127.0.0.1 "$(port_of b)" >/dev/null
on a REPLICAOF 127.0.0.1 "$(port_of c)" >/dev/null
on b REPLICAOF 127.0.0.1 "$(port_of c)" >/dev/null
until_true 30 "all links are up again" all_linked
until_true 30 "the masters agree" agree

# same COMMAND... -- REPLY: the command gives this reply on every master.
same() {
    local words=() reply wanted=${*: -1}
    while [ "$1" != -- ]; do words+=("$1") && shift; done
    for name in "${names[@]}"; do
        reply=$(on "$name" "${words[@]}" | paste -sd' ')
        [ "$reply" = "$wanted" ] || fail "${words[*]} on $name gives '$reply', not '$wanted'"
    done
    printf '    %sa b c>%s %-30s %s%s%s\n' "$bold" "$plain" "${words[*]}" "$green" "${wanted:-(nil)}" "$plain"
}
note "increments added up, the later SET won, fields joined, the deleted key stayed deleted"
same GET visits -- 47
same GET greeting -- "from a, later"
same HGET user:1 name -- Ada
same HGET user:1 city -- London
same HGET user:1 born -- 1815
same GET draft -- ""
printf '    %sa b c>%s %-30s %s%s%s\n' "$bold" "$plain" "DEBUG DIGEST" "$green" "$(on a DEBUG DIGEST)" "$plain"
good "the three masters hold the same data"

if [ -n "$is_check" ]; then
    stop_all
    say "quickstart: ok"
    exit 0
fi

title "They are yours"
for name in "${names[@]}"; do say "    redis-cli -p $(port_of "$name") -a $REDISCLI_AUTH     # master $name"; done
say "    Data and logs: $data (removed at the end)"
say "    Ctrl-C stops all three."
while :; do
    for pid in "${started_pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "process $pid, a master, ended by itself"; done
    sleep 1
done
