# What scripts/quickstart and scripts/check share: packages and builds.
# Sourced by bash, from the top of the source tree.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc 2>/dev/null || echo 2)
export LC_ALL=C

# Without these memopt can't be built ...
packages_build="build-essential autoconf automake libtool pkg-config libinih-dev libjansson-dev"
# ... these are its backends, and what finds the names of functions; each is left out if the
# system has none ...
packages_backends="libjemalloc-dev libgoogle-perftools-dev libmimalloc-dev libdw-dev"
# ... these make the training example and its images ...
packages_examples="zlib1g-dev dataset-fashion-mnist"
# ... and these are what the tests and the benchmark need.
packages_tests="libcmocka-dev mandoc valgrind clang libclang-rt-dev xz-utils python3 perl sqlite3 git
    redis-server redis-tools nodejs php-cli php-mbstring php-xml ruby lua5.4 nginx-light gdb
    musl-tools tmux"
# Two gigabytes more of real programs, which only scripts/check --long installs.
packages_long="ghc postgresql default-jdk-headless golang-go chromium chromium-sandbox"

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need REQUIRED... [-- OPTIONAL...]: installs what is missing. Nothing missing:
# nothing is run, no network is needed. An optional package that this release
# of the distribution doesn't have, or that can't be fetched, is named and left
# out. No server that a package brings is started.
need() {
    local package missing=() optional=() list=missing sudo=()
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian or Ubuntu: please see to these packages yourself: $*"
        return 0
    fi
    for package; do
        if [ "$package" = -- ]; then
            list=optional
        elif ! installed "$package"; then
            if [ $list = missing ]; then missing+=("$package"); else optional+=("$package"); fi
        fi
    done
    [ ${#missing[@]} -eq 0 ] && [ ${#optional[@]} -eq 0 ] && return 0
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null; then
            sudo=(sudo)
        elif [ ${#missing[@]} -gt 0 ]; then
            die "not root and no sudo; as root: apt-get install ${missing[*]} ${optional[*]}"
        else
            say "not root and no sudo; going on without ${optional[*]}"
            return 0
        fi
    fi
    say "installing: ${missing[*]} ${optional[*]}"
    local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o DPkg::Lock::Timeout=120)
    (
        # what Debian's packages ask before they start a server
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap '"${sudo[@]}" rm -f $policy' EXIT
            trap 'exit 1' INT TERM HUP
            printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" install -m 755 /dev/stdin $policy
        fi
        "${apt[@]}" update >&2 ||
            say "apt-get update failed; going on with the package lists that are there"
        if [ ${#missing[@]} -gt 0 ]; then
            "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 ||
                die "could not install: ${missing[*]}"
        fi
        for package in "${optional[@]}"; do
            "${apt[@]}" install --no-install-recommends "$package" >&2 || say "going on without $package"
        done
    ) || exit
}

# build DIRECTORY [CONFIGURE ARGUMENT...]: an up-to-date build there. configure
# runs only in a new directory or when the arguments have changed; make knows
# the rest.
build() {
    local directory=$1
    shift
    if [ ! -x "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ]; then
        (cd "$top" && ./autogen.sh) || return
    fi
    mkdir -p "$directory" || return
    if [ ! -f "$directory/Makefile" ] || [ "$(cat "$directory/.arguments" 2>/dev/null)" != "$*" ]; then
        rm -f "$directory/.arguments"
        (cd "$directory" && "$top/configure" -q "$@") || return
        printf '%s' "$*" >"$directory/.arguments"
    fi
    make -C "$directory" -j"$jobs" -s
}
