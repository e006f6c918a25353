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
rm /sys/fs/bpf/dropping

# libxdp's dispatcher: the usual rows for one program or none in it, then what is done to it by Debian's tools.
listed() { xdp-loader status host0 | sed -n 's/^ *=> *\([0-9]*\)  *\([a-z_]*\) .*/\1 \2/p' | tr '\n' ' '; }
id_of() { xdp-loader status host0 | sed -n "s/^ *=>.* $1  *\([0-9]*\) .*/\1/p"; }
# How many interfaces there are by status on which a dispatcher calls ours.
called() { icmp-ctl status 2>/dev/null | grep 'in xdp_dispatcher, priority 10' | grep -vc displaced; }
in_dispatcher() {
    check "$1: ping" ping4
    if [ "$(called)" = 1 ]; then pass "$1: status shows it"; else
        fail "$1: status does not show it: $(icmp-ctl status 2>&1)"
    fi
}
displaced() {
    if icmp-ctl status 2>&1 | grep -q displaced; then pass "$1: status says displaced"; else
        fail "$1: status does not say displaced: $(icmp-ctl status 2>&1)"
    fi
}
# said_in FILE NAME WORDS: what runs in the background writes them there.
said_in() {
    tries=0
    while [ $tries -lt 60 ]; do
        if grep -q "$3" "$1"; then pass "$2"; return; fi
        tries=$((tries + 1)); sleep 1
    done
    fail "$2: $(cat "$1")"
}
said_by_serve() { said_in /tmp/serve "$@"; }

# Each change of a dispatcher that a command makes, as the call and its number among those of its kind and thread.
changes() {
    strace -f -y -qq -o /tmp/trace -e trace=bpf,sendto,mkdir,symlink,unlink,unlinkat,rmdir "$@" >/tmp/said 2>&1
    awk '/^[0-9]+ +[a-z]+\(/ {
        call = $2; sub(/\(.*/, "", call); number = ++seen[$1, call]
        if (/BPF_LINK_CREATE|BPF_LINK_UPDATE|RTM_SETLINK|dispatched/ || /\/sys\/fs\/bpf\/xdp\// && !/BPF_OBJ_GET/) print call ":" number
    }' /tmp/trace
}
# killed NAME BEFORE VERB: before each of them, after which status tells what is, and attach and detach by turns put it right.
killed() {
    of=$1 before=$2 verb=$3 next=attach
    icmp-ctl $before >/tmp/said 2>&1
    points=$(changes icmp-ctl $verb)
    if [ "$(echo "$points" | wc -l)" -gt 5 ]; then pass "$of: $(echo "$points" | wc -l) changes"; else
        fail "$of: no changes: $points $(cat /tmp/said)"
    fi
    for point in $points; do
        icmp-ctl detach --all >/tmp/said 2>&1
        icmp-ctl $before >/tmp/said 2>&1
        call=${point%:*} at="$of before $point"
        strace -f -qq -o /tmp/trace -e trace=$call -e inject=$call:signal=KILL:when=${point#*:} icmp-ctl $verb >/tmp/said 2>&1
        is "$at: the end" $? 137
        there=$(listed)
        is "$at: in the dispatcher, by status" "$(called)" \
            "$(echo "$there" | grep -c icmp_ctl)"
        is "$at: the other program" "$(echo "$there" | grep -c xdpfilt_dny_all)" 1
        if [ $next = attach ]; then
            check "$at: then attach" icmp-ctl attach host0 --chain
            is "$at: xdp-loader lists both" "$(listed)" "10 icmp_ctl 10 xdpfilt_dny_all "
            in_dispatcher "$at: then attach"
            next=detach
        else next=attach; fi
        icmp-ctl detach --all >/tmp/said 2>&1
        is "$at: xdp-loader lists the other after detach" "$(listed)" "10 xdpfilt_dny_all "
        icmp-ctl status >/tmp/said 2>&1
        is "$at: nothing is loaded after detach" $? 3
    done
    # libxdp's own way with what commands have left that were killed.
    check "$of: xdp-loader clean" xdp-loader clean
    is "$of: dispatchers that are pinned" "$(ls /sys/fs/bpf/xdp | wc -l)" 1
}
for mode in native skb; do
    name="dispatcher, $mode"
    check "$name: xdp-loader load" xdp-loader load -m $mode host0 "$dropping"
    refused "$name: ping with the other program alone" 1 '0 packets received' ping4
    refused "$name: attach names it" 1 xdp_dispatcher icmp-ctl attach host0
    # As docs/chain.md has it, but for the mode of the second time.
    line='host0: attached, native mode, freplace, program [0-9]*, in xdp_dispatcher (program [0-9]*), priority 10'
    [ $mode = native ] || line=$(echo "$line" | sed 's/native/generic/')
    refused "$name: attach --chain" 0 "^$line\$" icmp-ctl attach host0 --chain
    is "$name: xdp-loader lists both" "$(listed)" "10 icmp_ctl 10 xdpfilt_dny_all "
    before=$(answered)
    in_dispatcher "$name"
    is "$name: pings that the program answered" $(($(answered) - before)) $pings
    if asked_for_its_mac; then fail "$name: the other program does not get ARP"; else pass "$name: the other program gets ARP"; fi
    refused "$name: explain" 0 'another XDP program may stop it first; ours is in xdp_dispatcher' \
        icmp-ctl explain --from 192.0.2.2 --to 192.0.2.1 --type 8/1
    if grep -q 'was loaded by build' /tmp/said; then fail "$name: explain takes the program for another one"; fi
    refused "$name: attach again" 0 'already attached.*in xdp_dispatcher' icmp-ctl attach host0
    rm -f /tmp/monitor
    icmp-ctl monitor >/tmp/monitor 2>&1 &
    monitor=$!
    said_in /tmp/monitor "$name: monitor watches" 'telling of events'
    check "$name: xdp-loader loads a third" xdp-loader load -m $mode host0 "$passing"
    said_in /tmp/monitor "$name: monitor tells of the third" "host0: behind the program is now .*program $(on_host0)"
    is "$name: xdp-loader lists three" "$(listed)" "10 icmp_ctl 10 xdpfilt_alw_all 10 xdpfilt_dny_all "
    in_dispatcher "$name: with a third"
    check "$name: limit set" icmp-ctl limit set errors 99/s
    check "$name: upgrade --check" icmp-ctl upgrade --check
    ours=$(id_of icmp_ctl) dispatcher=$(on_host0)
    check "$name: upgrade" icmp-ctl upgrade
    if [ "$(id_of icmp_ctl)" = "$ours" ] || [ "$(on_host0)" = "$dispatcher" ]; then fail "$name: nothing was exchanged"; fi
    is "$name: xdp-loader lists three after the upgrade" "$(listed)" "10 icmp_ctl 10 xdpfilt_alw_all 10 xdpfilt_dny_all "
    in_dispatcher "$name: after the upgrade"
    check "$name: xdp-loader unloads the third" xdp-loader unload host0 --id "$(id_of xdpfilt_alw_all)"
    in_dispatcher "$name: without the third"
    said_in /tmp/monitor "$name: monitor tells that it is gone" "host0: behind the program is now .*program $(on_host0)"
    kill $monitor; wait $monitor
    if grep -q detached /tmp/monitor; then fail "$name: monitor tells of what was not: $(cat /tmp/monitor)"; fi
    check "$name: detach" icmp-ctl detach --all
    is "$name: xdp-loader lists the other" "$(listed)" "10 xdpfilt_dny_all "
    refused "$name: ping with it alone again" 1 '0 packets received' ping4

    # The mode makes no difference to what follows.
    if [ $mode = skb ]; then xdp-loader unload host0 --all >/tmp/said 2>&1; continue; fi

    killed "$name: attach killed" "detach --all" "attach host0 --chain"
    killed "$name: detach killed" "attach host0 --chain" "detach --all"

    check "$name: attach --chain again" icmp-ctl attach host0 --chain
    check "$name: xdp-loader unloads the other" xdp-loader unload host0 --id "$(id_of xdpfilt_dny_all)"
    is "$name: xdp-loader lists ours" "$(listed)" "10 icmp_ctl "
    in_dispatcher "$name: alone"
    check "$name: xdp-loader loads the other again" xdp-loader load -m $mode host0 "$dropping"
    check "$name: limit set" icmp-ctl limit set errors 99/s
    check "$name: xdp-loader unloads ours" xdp-loader unload host0 --id "$(id_of icmp_ctl)"
    displaced "$name: ours unloaded"
    refused "$name: attach joins it again" 0 'in xdp_dispatcher' icmp-ctl attach host0
    in_dispatcher "$name: joined again"
    check "$name: xdp-loader unloads all" xdp-loader unload host0 --all
    displaced "$name: all unloaded"
    check "$name: upgrade while it is displaced" icmp-ctl upgrade
    refused "$name: attach puts ours there alone" 0 'attached, native mode, xdp,' icmp-ctl attach host0
    if icmp-ctl limit show | grep -q 99/s; then pass "$name: limits stay"; else fail "$name: limits are gone"; fi
    check "$name: detach at last" icmp-ctl detach --all

    check "$name: xdp-loader load for serve" xdp-loader load -m $mode host0 "$dropping"
    check "$name: attach --chain for serve" icmp-ctl attach host0 --chain
    printf 'interfaces = ["host0"]\n' >/tmp/host0.toml
    rm -f /tmp/serve
    icmp-ctl serve -f /tmp/host0.toml >/tmp/serve 2>&1 &
    serve=$!
    said_by_serve "$name: serve follows" 'serving metrics'
    check "$name: xdp-loader unloads ours behind serve" xdp-loader unload host0 --id "$(id_of icmp_ctl)"
    said_by_serve "$name: serve says that it is not called" 'is not there: .*attach --chain host0'
    check "$name: xdp-loader unloads all behind serve" xdp-loader unload host0 --all
    said_by_serve "$name: serve attaches ours alone" 'host0: attached'
    kill $serve; wait $serve
    check "$name: detach after serve" icmp-ctl detach --all

    check "$name: xdp-loader load once more" xdp-loader load -m $mode host0 "$passing"
    check "$name: attach --chain once more" icmp-ctl attach host0 --chain
    check "$name: xdp-loader unloads the other once more" xdp-loader unload host0 --id "$(id_of xdpfilt_alw_all)"
    check "$name: detach what is alone" icmp-ctl detach --all
    is "$name: what is there then" "$(on_host0)" ""
    is "$name: pins that are left" "$(ls /sys/fs/bpf/xdp)" ""
done

in_client icmp-ctl detach --all

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
