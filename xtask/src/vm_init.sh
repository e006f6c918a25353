#!/bin/busybox sh
# PID 1 of a test VM: see vm_test.rs, which reads the lines PASS, FAIL and DONE. Everything else is for the reader of a log.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo "kernel $(uname -r)"
for module in /modules/*.ko; do insmod "$module" || echo "FAIL insmod $module"; done

failed=0
pass() { echo "PASS $*"; }
fail() { echo "FAIL $*"; failed=1; }
# check NAME COMMAND…: what the command says is shown when it fails.
check() {
    what=$1; shift
    if "$@" >/tmp/said 2>&1; then pass "$what"; else fail "$what (exit $?): $*"; sed 's/^/    /' /tmp/said; fi
}

# This namespace is the host; the client's is held by a sleeping process. No duplicate address detection: it takes seconds.
for which in all default; do echo 0 >/proc/sys/net/ipv6/conf/$which/accept_dad; done
unshare -n sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; echo ready >/tmp/client; exec sleep 10000' &
client=$!
while [ ! -e /tmp/client ]; do sleep 0.1; done
in_client() { nsenter --net=/proc/$client/ns/net "$@"; }

ip link set lo up
# By busybox's ip, which gives the other end no name: the kernel calls it veth0.
ip link add host0 type veth
ip link set veth0 name client0
ip link set client0 netns $client
ip addr add 192.0.2.1/24 dev host0
ip -6 addr add 2001:db8::1/64 dev host0
ip link set host0 up
in_client ip link set lo up
in_client ip addr add 192.0.2.2/24 dev client0
in_client ip -6 addr add 2001:db8::2/64 dev client0
in_client ip link set client0 up

pings=5
ping4() { in_client ping -c $pings -W 2 -i 0.2 "$@" 192.0.2.1; }
ping6() { in_client ping -6 -c $pings -W 2 -i 0.2 "$@" 2001:db8::1; }
compact() { tr -d ' \n\t'; }
answered() {
    n=$(icmp-ctl show counters -j | compact | sed -n 's/.*"answered":{[^}]*"packets":\([0-9]*\).*/\1/p')
    echo "${n:-0}"
}
# Echo requests that reached the kernel's own stack.
stack_echos() {
    v4=$(awk '/^Icmp:/ { if (!c) { for (i = 1; i <= NF; i++) if ($i == "InEchos") c = i } else print $c }' /proc/net/snmp)
    v6=$(awk '$1 == "Icmp6InEchos" { print $2 }' /proc/net/snmp6)
    echo $((v4 + v6))
}

# one_pass NAME MTU MODE ENTRY: attach, ping, and see who answered.
one_pass() {
    name=$1 mtu=$2 mode=$3 entry=$4
    ip link set host0 mtu "$mtu"
    in_client ip link set client0 mtu "$mtu"
    check "$name: plain IPv4 ping, nothing attached" ping4
    check "$name: plain IPv6 ping, nothing attached" ping6

    check "$name: attach" icmp-ctl attach host0 --mode "$mode"
    # The first one has mounted it; the kernel adds the sticky bit.
    bpffs=$(stat -c '%a %u' /sys/fs/bpf)
    if [ "$bpffs" = "1700 0" ]; then pass "$name: the BPF file system is root's alone"; else
        fail "$name: the BPF file system has mode and owner $bpffs"
    fi
    # What XDP sends over veth arrives only where the other end has a program too.
    check "$name: attach on the client" in_client icmp-ctl attach client0 --mode "$mode"
    icmp-ctl status -j >/tmp/status 2>&1
    if compact </tmp/status | grep -q "\"name\":\"host0\",.*\"mode\":\"$mode\""; then pass "$name: mode is $mode"; else
        fail "$name: mode is not $mode: $(cat /tmp/status)"
    fi
    if compact </tmp/status | grep -q "\"entry\":\"$entry\""; then pass "$name: entry is $entry"; else
        fail "$name: entry is not $entry: $(cat /tmp/status)"
    fi

    before=$(answered) stack_before=$(stack_echos)
    check "$name: IPv4 ping" ping4
    check "$name: IPv6 ping" ping6
    after=$(answered) stack_after=$(stack_echos)
    if [ $((after - before)) = $((2 * pings)) ]; then pass "$name: XDP answered $((2 * pings))"; else
        fail "$name: XDP answered $((after - before)), not $((2 * pings)): $(icmp-ctl show counters -j 2>&1)"
    fi
    if [ "$stack_after" = "$stack_before" ]; then pass "$name: the kernel's stack saw none of them"; else
        fail "$name: the kernel's stack saw $((stack_after - stack_before)) of them"
    fi
    # Larger than a page: answered or handed over, but not lost.
    if [ "$mtu" -gt 6100 ]; then check "$name: IPv4 ping of 6000 bytes" ping4 -s 6000; fi

    in_client icmp-ctl detach --all
    check "$name: detach" icmp-ctl detach --all
    check "$name: plain IPv4 ping after detach" ping4
}

one_pass native 1500 native xdp
one_pass jumbo 9000 native xdp.frags
one_pass generic 1500 generic xdp

# Not there for every processor: see vm_test.rs.
for script in /vm_chain.sh /vm_vlans.sh /vm_masters.sh; do
    # shellcheck source=/dev/null
    if [ -e $script ]; then . $script; fi
done

if [ $failed != 0 ]; then echo "--- kernel log"; dmesg | tail -n 30; fi
echo DONE
poweroff -f
