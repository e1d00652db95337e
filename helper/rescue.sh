#!/bin/sh
# culvert rescue: gives the network back, whatever state Culvert left it in. It needs sh, ip and nft; not Node, not the
# helper, not the journal. In this order:
#
#   1. nothing is wanted any more (DIR/target), so that a helper that is started later does not begin again
#   2. the helper is stopped, which as a rule undoes everything
#   3. what the journal lists is undone (DIR/journal; host/journal.ts says how it is written)
#   4. whatever still bears our names is removed
#
# The names repeat host/names.ts; rescue.test.ts holds the two together.
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

INTERFACE=culvert0
FWMARK=0x63756c76
ROUTE_TABLE=1668639862
RULE_MAIN=27640
RULE_TUNNEL=27641
NFT_TABLE=culvert
SRC_VALID_MARK=net.ipv4.conf.all.src_valid_mark
UNIT=culvert-helper.service

state=/var/lib/culvert
socket=${CULVERT_SOCKET:-/run/culvert/helper.sock}
done_something=no
failed=no

say() {
  done_something=yes
  echo "$1"
}

fail() {
  failed=yes
  echo "culvert rescue: $1" >&2
}

usage() {
  cat <<END
Usage: culvert rescue [--state DIR]

Gives the network back: stops the helper, undoes every change of Culvert's, and leaves it disconnected with
lockdown off. It works when the helper is broken. CULVERT_SOCKET names the helper's socket if it is elsewhere.

  --state DIR   where the helper keeps its journal (default: /var/lib/culvert)
  --help        this text
END
}

want_nothing() {
  [ -d "$state" ] || return 0
  old=$(cat "$state/target" 2>/dev/null)
  new=$(printf 'culvert-target 1\nboot -\nprofile -\nlockdown off')
  [ "$old" = "$new" ] && return 0
  if printf '%s\n' "$new" >"$state/target.new" && mv -f "$state/target.new" "$state/target"; then
    say 'noted that no tunnel is wanted and lockdown is off'
  else
    fail "\"$state/target\" cannot be written: a helper that is started again may connect again"
  fi
}

stop_helper() {
  if command -v systemctl >/dev/null && systemctl is-active --quiet "$UNIT" 2>/dev/null; then
    if systemctl stop "$UNIT"; then say "stopped $UNIT"; else fail "systemctl could not stop $UNIT"; fi
  fi
  pid=$(cat "$(dirname -- "$socket")/helper.pid" 2>/dev/null)
  case $pid in '' | *[!0-9]*) return 0 ;; esac
  is_helper "$pid" || return 0
  kill -TERM "$pid" 2>/dev/null
  tries=0
  while is_helper "$pid" && [ "$tries" -lt 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  if is_helper "$pid"; then kill -KILL "$pid" 2>/dev/null; fi
  say "stopped the helper, process $pid"
}

# After a crash the number may be anybody's.
is_helper() {
  tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -Eq 'culvert-helper|helper/main\.ts'
}

undo_journal() {
  [ -f "$state/journal" ] || return 0
  boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
  earlier=no
  listed=' '
  while IFS=' ' read -r tag a b c rest; do
    [ -z "$rest" ] || continue
    listed="$listed$a "
    case $tag in
      culvert-journal) if [ "$b" = "$boot" ]; then earlier=no; else earlier=yes; fi ;;
      sysctl) [ "$earlier" = yes ] || undo_sysctl "$a" "$b" "$c" ;;
      file) undo_file "$a" "$b" ;;
    esac
  done <"$state/journal"
  # What it was before stood in the journal only.
  case $listed in
    *" $SRC_VALID_MARK "*) ;;
    *)
      if [ "$(cat "/proc/sys/$(printf '%s' "$SRC_VALID_MARK" | tr . /)" 2>/dev/null)" = 1 ]; then
        say "$SRC_VALID_MARK is left at 1: the journal does not say what it was; 1 does no harm"
      fi
      ;;
  esac
  rm -f "$state/journal" || fail "\"$state/journal\" cannot be removed"
  say 'undid what the journal lists'
}

# undo_sysctl KEY BEFORE OURS. If it is not ours any more, somebody has changed it since.
undo_sysctl() {
  case $1 in '' | .* | *..* | *[!A-Za-z0-9._-]*) return 0 ;; esac
  case $2 in '' | *[!0-9-]*) return 0 ;; esac
  path=/proc/sys/$(printf '%s' "$1" | tr . /)
  [ "$(cat "$path" 2>/dev/null)" = "$3" ] || return 0
  if printf '%s' "$2" >"$path"; then say "set $1 to $2 again"; else fail "$1 cannot be set to $2 again"; fi
}

# undo_file PATH COPY
undo_file() {
  case $1 in /*) ;; *) return 0 ;; esac
  case $2 in /*) ;; *) return 0 ;; esac
  [ -e "$2" ] || [ -L "$2" ] || return 0
  if cp -a -- "$2" "$1.culvert" && mv -f -- "$1.culvert" "$1"; then
    say "put $1 back"
  else
    fail "$1 cannot be put back; what it was is in $2"
  fi
}

# remove_rule FAMILY PRIORITY RULE…: all of it, so that nobody else's rule of that priority goes.
remove_rule() {
  family=$1
  priority=$2
  shift 2
  while ip "-$family" rule del priority "$priority" "$@" 2>/dev/null; do
    say "removed the IPv$family rule $priority"
  done
}

remove_by_name() {
  for family in 4 6; do
    remove_rule "$family" "$RULE_TUNNEL" not fwmark "$FWMARK" lookup "$ROUTE_TABLE"
    remove_rule "$family" "$RULE_MAIN" lookup main suppress_prefixlength 0
    if [ -n "$(ip "-$family" route show table "$ROUTE_TABLE" 2>/dev/null)" ]; then
      if ip "-$family" route flush table "$ROUTE_TABLE"; then
        say "emptied the IPv$family route table $ROUTE_TABLE"
      else
        fail "the IPv$family route table $ROUTE_TABLE cannot be emptied"
      fi
    fi
  done
  if ! command -v nft >/dev/null; then
    fail 'the program "nft" is not installed, so the firewall was not looked at'
  elif nft list table inet "$NFT_TABLE" >/dev/null 2>&1; then
    if nft delete table inet "$NFT_TABLE"; then
      say "removed the nftables table inet $NFT_TABLE"
    else
      fail "the nftables table inet $NFT_TABLE cannot be removed"
    fi
  fi
  if ip link show dev "$INTERFACE" >/dev/null 2>&1; then
    if ip link delete dev "$INTERFACE"; then say "removed $INTERFACE"; else fail "$INTERFACE cannot be removed"; fi
  fi
}

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --state)
      [ $# -ge 2 ] || { echo 'culvert rescue: --state needs a directory' >&2 && exit 2; }
      state=$2
      shift
      ;;
    --state=*) state=${1#--state=} ;;
    *) echo "culvert rescue: there is no \"$1\": see culvert rescue --help" >&2 && exit 2 ;;
  esac
  shift
done

if [ "$(id -u)" != 0 ]; then
  echo 'culvert rescue: it has to run as root: sudo culvert rescue' >&2
  exit 1
fi
if ! command -v ip >/dev/null; then
  echo 'culvert rescue: the program "ip" is not installed, and routes cannot be given back without it' >&2
  exit 1
fi

want_nothing
stop_helper
undo_journal
remove_by_name

[ "$failed" = no ] || exit 1
if [ "$done_something" = yes ]; then
  echo 'the network is as it was without Culvert'
else
  echo 'there was nothing to undo'
fi
