# Sourced by vm_init.sh: beside other XDP programs, which Debian's tools attach (docs/chain.md).

# Both are xdp-tools'. The first one drops what it gets, which shows that it has got it.
dropping=/usr/lib/x86_64-linux-gnu/bpf/xdpfilt_dny_all.o
passing=/usr/lib/x86_64-linux-gnu/bpf/xdpfilt_alw_all.o
real_ip=/sbin/ip

on_host0() { $real_ip -d link show host0 | sed -n 's/.*prog\/xdp id \([0-9]*\).*/\1/p'; }
asked_for_its_mac() { in_client arping -c 2 -w 3 -I client0 192.0.2.1 | grep -q '^Received [1-9]'; }
# refused NAME CODE WORDS COMMAND…: with this exit code and these words.
refused() {
    what=$1 expected=$2 words=$3; shift 3
    "$@" >/tmp/said 2>&1; code=$?
    if [ $code = "$expected" ] && grep -q "$words" /tmp/said; then pass "$what"; else
        fail "$what (exit $code, not $expected with $words): $(cat /tmp/said)"
    fi
}
# is WHAT FOUND EXPECTED
is() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: $2, not $3"; fi; }

# The other program gets ARP requests as well.
in_client $real_ip neigh replace 192.0.2.1 lladdr "$(cat /sys/class/net/host0/address)" nud permanent dev client0

# in_front_of NAME MODE COMMAND…: of what the command attaches, in that mode, as ip link calls it. What ours passes is dropped then, what it answers is not.
in_front_of() {
    name=$1 mode=$2; shift 2
    if asked_for_its_mac; then pass "$name: ARP, nothing attached"; else fail "$name: no ARP, nothing attached"; fi
    check "$name: attach the other program" "$@"
    other=$(on_host0)
    refused "$name: ping with the other program alone" 1 '0 packets received' ping4
    refused "$name: attach names it" 1 "id $other .*--chain" icmp-ctl attach host0
    check "$name: attach --chain" icmp-ctl attach host0 --chain
    before=$(answered)
    check "$name: ping" ping4
    is "$name: pings that the program answered" $(($(answered) - before)) $pings
    if asked_for_its_mac; then fail "$name: the other program does not get ARP"; else pass "$name: the other program gets ARP"; fi
    check "$name: detach" icmp-ctl detach --all
    is "$name: the program that is there after detach" "$(on_host0)" "$other"
    refused "$name: ping with it alone again" 1 '0 packets received' ping4
    check "$name: take the other one off" $real_ip link set host0 "$mode" off
}

check "client: attach" in_client icmp-ctl attach client0
check "bpftool prog load" bpftool prog load "$dropping" /sys/fs/bpf/dropping type xdp
in_front_of "ip link, native" xdpdrv $real_ip link set host0 xdpdrv pinned /sys/fs/bpf/dropping
in_front_of "ip link, generic" xdpgeneric $real_ip link set host0 xdpgeneric pinned /sys/fs/bpf/dropping
in_front_of "bpftool net attach" xdpdrv bpftool net attach xdpdrv pinned /sys/fs/bpf/dropping dev host0
in_front_of "xdp-loader without a dispatcher" xdpdrv env LIBXDP_SKIP_DISPATCHER=1 xdp-loader load -m native host0 "$dropping"

check "upgrade: attach the other program" $real_ip link set host0 xdpdrv pinned /sys/fs/bpf/dropping
check "upgrade: attach --chain" icmp-ctl attach host0 --chain
ours=$(on_host0)
check "upgrade" icmp-ctl upgrade
if [ "$(on_host0)" = "$ours" ]; then fail "upgrade: nothing was exchanged"; fi
check "upgrade: ping" ping4
if asked_for_its_mac; then fail "upgrade: the other program does not get ARP"; else pass "upgrade: the other program gets ARP"; fi
check "upgrade: detach" icmp-ctl detach --all
check "upgrade: take the other one off" $real_ip link set host0 xdpdrv off
in_client icmp-ctl detach --all
rm /sys/fs/bpf/dropping

check "dispatcher: xdp-loader load" xdp-loader load -m native host0 "$passing"
dispatcher=$(on_host0)
refused "dispatcher: attach names it" 1 xdp_dispatcher icmp-ctl attach host0
refused "dispatcher: attach --chain says why not" 5 'other programs extend it' icmp-ctl attach host0 --chain
is "dispatcher: the program that is there after that" "$(on_host0)" "$dispatcher"
check "dispatcher: xdp-loader unload" xdp-loader unload host0 --all

check "ours first: attach" icmp-ctl attach host0
ours=$(on_host0)
if xdp-loader load -m native host0 "$passing" >/tmp/said 2>&1; then fail "ours first: xdp-loader load"; else
    pass "ours first: xdp-loader load is refused"
fi
xdp-loader unload host0 --all >/tmp/said 2>&1
is "ours first: the program that is there after xdp-loader unload" "$(on_host0)" "$ours"
xdp-loader status host0 >/tmp/said 2>&1
if grep -q icmp_ctl /tmp/said; then pass "ours first: xdp-loader status shows it"; else
    fail "ours first: xdp-loader status does not show it: $(cat /tmp/said)"
fi
check "ours first: detach" icmp-ctl detach --all
in_client $real_ip neigh del 192.0.2.1 dev client0
