#!/usr/bin/env bash
# Two hosts on one machine: network namespaces with a name, an address and a link between them, over which Open MPI starts
# processes as over ssh.
#
#     tools/scaling/hosts.sh [--far] PROCESSES COMMAND...
#
# PROCESSES are on both hosts together. `--far` makes the link one of 50 ms there and back that loses a packet in a hundred: by
# `tc netem` where the kernel has it, else by relay.py, which carries the packets between two TUN devices.
# Needs root, iproute2 and mpirun.openmpi; ends with 77 without them.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

skip() {
    echo "hosts: skipped, nothing was run: $1" >&2
    exit 77
}
far=
if [ "${1:-}" = --far ]; then
    far=1
    shift
fi
[ $# -ge 2 ] || { echo "usage: hosts.sh [--far] PROCESSES COMMAND..." >&2 && exit 2; }
processes=$1
shift
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "no ip (Debian's iproute2)"
mpirun=$(command -v mpirun.openmpi || true)
[ -n "$mpirun" ] || skip "no mpirun.openmpi"

a=hs$$a b=hs$$b relay=
scratch=$(mktemp -d)
clean() {
    [ -z "$relay" ] || kill "$relay" 2>/dev/null || true
    ip netns del "$a" 2>/dev/null || true
    ip netns del "$b" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean EXIT
ip netns add "$a" 2>/dev/null || skip "no network namespaces here"
ip netns add "$b"

netem() {
    ip link add va netns "$a" type veth peer name vb netns "$b" 2>/dev/null || return 1
    for side in a b; do
        name=$([ $side = a ] && echo "$a" || echo "$b")
        ip -n "$name" link set "v$side" up
        [ -z "$far" ] || ip netns exec "$name" tc qdisc add dev "v$side" root netem delay 25ms loss 1% 2>/dev/null || return 1
    done
    ip -n "$a" addr add 10.77.0.1/24 dev va
    ip -n "$b" addr add 10.77.0.2/24 dev vb
}
if ! netem; then
    ip -n "$a" link del va 2>/dev/null || true
    python3 "$here/relay.py" "$a" "$b" 0.025 0.01 >"$scratch/relay" 2>&1 &
    relay=$!
    for _ in $(seq 50); do
        grep -q ready "$scratch/relay" && break
        sleep 0.1
    done
    grep -q ready "$scratch/relay" || skip "no link between the namespaces: $(tail -n 1 "$scratch/relay")"
    ip -n "$a" addr add 10.77.0.1 peer 10.77.0.2 dev ta
    ip -n "$b" addr add 10.77.0.2 peer 10.77.0.1 dev tb
    ip -n "$a" link set ta up
    ip -n "$b" link set tb up
fi
ip -n "$a" link set lo up
ip -n "$b" link set lo up

# As ssh: a host and a command.
cat >"$scratch/agent" <<AGENT
#!/bin/bash
case \$1 in
    10.77.0.1) name=$a ;;
    10.77.0.2) name=$b ;;
    *) echo "no host \$1" >&2; exit 1 ;;
esac
shift
exec ip netns exec \$name unshare --uts bash -c 'hostname '\$name'; exec bash -c "\$0"' "\$*"
AGENT
chmod +x "$scratch/agent"
half=$(((processes + 1) / 2))
ip netns exec "$a" unshare --uts bash -c 'hostname "$0"; exec "$@"' "$a" \
    "$mpirun" --allow-run-as-root --bind-to none -n "$processes" --map-by node \
    --host "10.77.0.1:$half,10.77.0.2:$half" \
    --mca plm rsh --mca plm_rsh_agent "$scratch/agent" --mca orte_keep_fqdn_hostnames 1 \
    --mca btl self,tcp --mca pml ob1 \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
    "$@" &
wait $!
