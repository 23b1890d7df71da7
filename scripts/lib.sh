# shellcheck shell=bash
# What the scripts share: colours, steps with their time, packages, ports, servers by process id.
# Sourced after `set -euo pipefail` and `cd` to the root of the repository.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' blue=$'\e[34m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' yellow='' blue='' plain=''
fi

say() { printf '%s\n' "$*"; }
title() { printf '\n%s==> %s%s\n' "$bold$blue" "$*" "$plain"; }
note() { printf '%s    %s%s\n' "$dim" "$*" "$plain"; }
good() { printf '%s    %s%s\n' "$green" "$*" "$plain"; }
warn() { printf '%s    %s%s\n' "$yellow" "$*" "$plain" >&2; }
fail() {
    printf '%sfailed:%s %s\n' "$bold$red" "$plain" "$*" >&2
    exit 1
}

# step NAME COMMAND...: runs it, says how long it took, and ends the script when it fails.
step() {
    local name=$1 began=$SECONDS
    shift
    title "$name"
    note "$*"
    if "$@"; then
        good "ok: $name, $((SECONDS - began)) s"
    else
        fail "$name (after $((SECONDS - began)) s): $*"
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        fail "this needs root once, and there is no sudo; as root run: $*"
    fi
}

apt_is_fresh=
# install_package PACKAGE: with apt, or it fails.
install_package() {
    command -v apt-get >/dev/null || fail "there is no apt-get to install it with: install $1"
    if [ -z "$apt_is_fresh" ]; then
        title "Installing what is missing" >&2
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
        apt_is_fresh=yes
    fi
    note "installing $1" >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1" >&2
}

# need COMMAND PACKAGE: installs the package unless the command is there.
need() {
    command -v "$1" >/dev/null && return 0
    install_package "$2"
    hash -r
    command -v "$1" >/dev/null || fail "$2 is installed, but there is still no $1"
}

# Debian starts a redis-server of its own on port 6379 when the package is installed; we only want the program.
need_redis_server() {
    command -v redis-server >/dev/null && return 0
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod +x $policy
        made=yes
    fi
    need redis-server redis-server
    [ -z "$made" ] || as_root rm -f $policy
}

rust_least=1.88
need_rust() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null; then
        if ! command -v rustup >/dev/null && command -v apt-get >/dev/null; then
            as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
            apt_is_fresh=yes
            # Debian 13 and Ubuntu 24.04 have it; older ones do not.
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rustup || true
        fi
        command -v rustup >/dev/null || fail "Rust $rust_least or newer is missing; get it from https://rustup.rs, then run this again"
        step "Installing Rust" rustup default stable
    fi
    local have
    have=$(cargo --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$rust_least" "$have" | sort -V | head -1)" != "$rust_least" ]; then
        fail "Rust $have is too old, $rust_least or newer is needed: rustup update stable"
    fi
}

# What building needs: a C compiler for the allocator and the libraries under glommio, and a linker.
need_to_build() {
    need cc gcc
    need make make
    [ -e /usr/include/stdio.h ] || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends libc6-dev
    need_rust
}

# The directory cargo puts its results in.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-target}"; }

# A TCP port nobody listens on; ours until we use it, which is soon.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# What we started, by process id; stop_all ends exactly these.
started_pids=()
stop_all() {
    local pid
    for pid in ${started_pids[@]+"${started_pids[@]}"}; do
        kill -CONT "$pid" 2>/dev/null || true
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in ${started_pids[@]+"${started_pids[@]}"}; do
        local tries=50
        while kill -0 "$pid" 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started_pids=()
}
