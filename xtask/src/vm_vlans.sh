# Sourced by vm_init.sh: each way in which a VLAN tag can be gone from a frame before XDP sees it (docs/vlans.md has the table). What the
# kernel leaves unanswered without the program is not answered with it, and what it answers still is.

# The real one, because busybox's knows few kinds of devices.
ip=/sbin/ip
host_mac=02:00:00:00:00:0a
untagged=192.0.2.1
tagged=10.0.100.1

# world [cards]: host0 and client0 anew, a veth or the two network cards, client0 with the VLANs 100, 100.31 and 31 and the service VLAN
# 200. The client knows the host's MAC address everywhere, so that no request fails for want of ARP, and takes an answer wherever it comes in.
world() {
    for device in host0 br0 bond0 team0; do $ip link del $device 2>/dev/null; done
    if [ "$1" = cards ]; then
        for card in /cards/*.ko; do check "network cards" insmod "$card"; done
        $ip link set eth1 netns $client name client0
        $ip link set eth0 name host0
    else
        $ip link add host0 address $host_mac type veth peer name client0 netns $client
    fi
    $ip link set host0 up
    with_client $ip link set client0 up
    with_client $ip addr add 192.0.2.2/24 dev client0
    with_client $ip link add link client0 name client0.100 type vlan id 100
    with_client $ip link add link client0 name client0.31 type vlan id 31
    with_client $ip link add link client0 name client0.s200 type vlan protocol 802.1ad id 200
    with_client $ip link add link client0.100 name client0.100.31 type vlan id 31
    for device in client0.100:100 client0.31:32 client0.s200:200 client0.100.31:31; do
        name=${device%:*}
        with_client $ip link set "$name" up
        with_client $ip addr add "10.0.${device#*:}.2/24" dev "$name"
        echo 0 | with_client tee "/proc/sys/net/ipv4/conf/$name/rp_filter" >/dev/null
    done
}
with_client() { nsenter --net=/proc/$client/ns/net "$@"; }

# vlan DEVICE ID [ADDRESS [PROTOCOL]]: a VLAN device of the host.
vlan() {
    $ip link add link "$1" name "$1.$2" type vlan protocol "${4:-802.1Q}" id "$2"
    $ip link set "$1.$2" up
    if [ -n "$3" ]; then $ip addr add "$3/24" dev "$1.$2"; fi
}

# replies ADDRESS DEVICE: of two pings that the client sends out of a device, how many are answered at all, and how many on that device.
replies() {
    with_client $ip route replace "$1/32" dev "$2"
    with_client $ip neigh replace "$1" lladdr $host_mac dev "$2"
    echo "$(received "$1"):$(received "$1" -I "$2")"
    with_client $ip route del "$1/32" dev "$2"
}
received() { with_client ping -c 2 -i 0.1 -W 1 "$@" | sed -n 's/.* \([0-9]*\) packets received.*/\1/p'; }

# like_the_kernel ROW OPTIONS DEVICE REPLIES ADDRESS CLIENT_DEVICE [REPLIES ADDRESS CLIENT_DEVICE …]: so many replies without the program,
# and as many with it on the device, attached with these options. Linux answers for an address of any device on any other, so a request
# to the untagged address in a VLAN that has a device is answered, in that VLAN.
like_the_kernel() {
    row=$1 options=$2 device=$3; shift 3
    attached='' all=$*
    # In an emulator the first packets may find ports that do not forward yet.
    for _ in 1 2 3; do
        # shellcheck disable=SC2086
        set -- $all
        expected='' plain=''
        while [ $# -gt 0 ]; do expected="$expected $1"; plain="$plain $(replies "$2" "$3")"; shift 3; done
        [ "$plain" = "$expected" ] && break
    done
    if [ "$plain" = "$expected" ]; then pass "$row: the kernel alone answers$plain"; else
        fail "$row: the kernel alone answers$plain, and this row goes by$expected"
    fi
    # shellcheck disable=SC2086
    check "$row: attach" icmp-ctl attach "$device" $options
    sed 's/^/    /' /tmp/said
    # shellcheck disable=SC2086
    set -- $all
    while [ $# -gt 0 ]; do attached="$attached $(replies "$2" "$3")"; shift 3; done
    by_the_program=$(answered)
    if [ "$attached" = "$plain" ]; then pass "$row: the same with the program"; else
        fail "$row: with the program$attached: $(icmp-ctl show counters -j | compact)"
    fi
    icmp-ctl detach --all >/dev/null
}

# port_is_refused ROW PORT MASTER: attaching to a port, which its master is named for.
port_is_refused() {
    if ! icmp-ctl attach "$2" >/tmp/said 2>&1 && grep -q "icmp-ctl attach $3" /tmp/said; then pass "$1: a port is refused, and $3 named"; else
        fail "$1: a port is refused, and $3 named: $(cat /tmp/said)"
    fi
}

# by_the_program ROW NUMBER: so many pings of the row before were answered by the program.
by_the_program() {
    if [ "$by_the_program" = "$2" ]; then pass "$1: $2 by the program"; else
        fail "$1: the program answered $by_the_program, not $2"
    fi
}

world
$ip addr add $untagged/24 dev host0
vlan host0 100 $tagged
# Frames that XDP sends over veth in native mode arrive only where the other end has a program too.
check "client's program" with_client icmp-ctl attach client0 --mode native
like_the_kernel "veth, native" "--mode native" host0 2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100
with_client icmp-ctl detach --all >/dev/null
like_the_kernel "veth, generic" "--mode generic" host0 2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100
check "rxvlan off" ethtool -K host0 rxvlan off
like_the_kernel "veth without rxvlan" "--mode generic" host0 2:2 $untagged client0 2:2 $untagged client0.100
check "client: txvlan off" with_client ethtool -K client0 txvlan off tx-vlan-stag-hw-insert off
like_the_kernel "veth with tags in the frame" "--mode generic" host0 \
    2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100

world
$ip addr add $untagged/24 dev host0
unshare --net sleep 3600 &
elsewhere=$!
until [ "$(readlink /proc/$elsewhere/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
vlan host0 100
$ip link set host0.100 netns $elsewhere
nsenter --net=/proc/$elsewhere/ns/net $ip link set host0.100 up
like_the_kernel "a VLAN device in another namespace" "--mode generic" host0 2:2 $untagged client0 0:0 $untagged client0.100
kill $elsewhere

world
$ip addr add $untagged/24 dev host0
vlan host0 100
vlan host0 31 10.0.31.1
$ip route add 10.0.32.0/24 dev host0.31
like_the_kernel "two tags, the outer one stripped" "--mode generic" host0 2:2 10.0.31.1 client0.31 0:0 10.0.31.1 client0.100.31

world
$ip addr add $untagged/24 dev host0
vlan host0 100 $tagged
$ip route add 10.0.200.0/24 dev host0
like_the_kernel "a service tag" "--mode generic --disable-rx-vlan-offload" host0 \
    2:2 $tagged client0.100 0:0 $untagged client0.s200
check "explain in a VLAN: attach" icmp-ctl attach host0 --mode generic --disable-rx-vlan-offload
refused "explain in a VLAN" 0 'nothing that is known of stops it' \
    icmp-ctl explain --from 10.0.100.2 --to $tagged --vlan 100 --type 8/1
check "explain in a VLAN: detach" icmp-ctl detach --all

world
$ip addr add $untagged/24 dev host0
vlan host0 100 $tagged
$ip link set host0.100 down
$ip route add 10.0.100.0/24 dev host0
like_the_kernel "a VLAN device that is down" "--mode generic" host0 2:2 $untagged client0 0:0 $untagged client0.100

# tags_in_the_frame: neither end of the veth takes them out.
tags_in_the_frame() {
    check "rxvlan off" ethtool -K host0 rxvlan off
    check "client: txvlan off" with_client ethtool -K client0 txvlan off tx-vlan-stag-hw-insert off
}

# Its frames are for its own MAC address and for that of the interface below.
world
$ip addr add $untagged/24 dev host0
vlan host0 100 $tagged
$ip link set host0.100 address 02:00:00:00:00:0b
tags_in_the_frame
like_the_kernel "a VLAN device with a MAC address of its own" "--mode generic" host0 2:2 $untagged client0 2:2 $tagged client0.100
host_mac=02:00:00:00:00:0b
like_the_kernel "the MAC address of a VLAN device" "--mode generic" host0 0:0 $untagged client0 2:2 $tagged client0.100
host_mac=02:00:00:00:00:0a

# It has its frames before the bridge has.
world
$ip link add br0 address $host_mac type bridge
$ip link set host0 master br0
$ip link set br0 up
$ip addr add $untagged/24 dev br0
vlan host0 100 $tagged
tags_in_the_frame
for device in host0 br0; do
    like_the_kernel "a VLAN device on a bridge port, $device" "--mode generic" $device 2:2 $untagged client0 2:2 $tagged client0.100
done
host_mac=02:00:00:00:00:0c
$ip link set host0 address $host_mac
for device in host0 br0; do
    like_the_kernel "a VLAN device on a bridge port, to the port's MAC address, $device" "--mode generic" $device \
        2:2 $untagged client0 2:2 $tagged client0.100
done
host_mac=02:00:00:00:00:0a

world
$ip link add br0 address $host_mac type bridge
$ip link set host0 master br0
$ip link set br0 up
$ip addr add $untagged/24 dev br0
vlan br0 100 $tagged
like_the_kernel "VLAN devices on a bridge" "--mode generic" br0 \
    2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100
# An access port of VLAN 100: its frames have no tag on the wire.
$ip link set br0 type bridge vlan_filtering 1
bridge vlan del dev host0 vid 1
bridge vlan add dev host0 vid 100 pvid untagged
bridge vlan add dev br0 vid 100 self
like_the_kernel "an access port of a bridge" "--mode generic" br0 0:0 $untagged client0
$ip route add 192.0.2.2/32 dev br0.100
like_the_kernel "an access port, and the address of its VLAN" "--mode generic" br0 2:2 $tagged client0
$ip link del br0.100
like_the_kernel "a bridge that filters VLANs" "--mode generic" br0 0:0 $untagged client0

world
$ip link add bond0 address $host_mac type bond mode active-backup
$ip link set host0 down
$ip link set host0 master bond0
$ip link set bond0 up
$ip addr add $untagged/24 dev bond0
vlan bond0 100 $tagged
for mode in generic auto; do
    like_the_kernel "a bond, $mode" "--mode $mode" bond0 \
        2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100
done
world
$ip link add team0 address $host_mac type team
check "a team's mode" teamnl team0 setoption mode activebackup
$ip link set host0 down
$ip link set host0 master team0
$ip link set team0 up
check "a team's active port" teamnl team0 setoption activeport "$(cat /sys/class/net/host0/ifindex)"
$ip addr add $untagged/24 dev team0
vlan team0 100 $tagged
like_the_kernel "a team" "--mode auto" team0 \
    2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100
port_is_refused "a team" host0 team0
icmp-ctl attach team0 --mode native >/tmp/said 2>&1
refused=$?
if [ $refused = 5 ] && ! icmp-ctl status >/dev/null 2>&1; then pass "a team: no native mode"; else
    fail "a team: native mode ends with $refused: $(cat /tmp/said)"
fi

world
$ip link add link host0 name above type macvlan mode bridge
host_mac=$(cat /sys/class/net/above/address)
$ip link set above up
$ip addr add $untagged/24 dev above
vlan above 100 $tagged
like_the_kernel "VLAN devices on a macvlan" "--mode generic" above \
    2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100

# It has the MAC address of the interface below.
world
$ip link add link host0 name above type ipvlan mode l2
host_mac=$(cat /sys/class/net/above/address)
$ip link set above up
$ip addr add $untagged/24 dev above
like_the_kernel "an ipvlan" "--mode generic" above 2:2 $untagged client0
like_the_kernel "below an ipvlan" "--mode generic" host0 2:2 $untagged client0
# The address is that of another device.
by_the_program "below an ipvlan" 0

# As vm_test.rs gives it to the card.
host_mac=02:00:00:00:00:0a
world cards
$ip addr add $untagged/24 dev host0
vlan host0 100 $tagged
like_the_kernel "network card" "--mode generic" host0 2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100
# It may not have seen their tags.
by_the_program "network card" 0
vlan host0 31 10.0.31.1
$ip route add 10.0.32.0/24 dev host0.31
# QEMU's card loses one of two tags when it is to put the other one in.
check "client: txvlan off" with_client ethtool -K client0 txvlan off
like_the_kernel "network card, two tags" "--mode generic" host0 2:2 10.0.31.1 client0.31 0:0 10.0.31.1 client0.100.31
like_the_kernel "network card without rxvlan" "--mode generic --disable-rx-vlan-offload" host0 \
    2:2 $untagged client0 2:2 $tagged client0.100 2:2 $untagged client0.100 0:0 10.0.31.1 client0.100.31
# In both VLANs. Not those for the untagged address in VLAN 100: it is that of another device.
by_the_program "network card without rxvlan" 8
$ip link set host0.100 address 02:00:00:00:00:0b
like_the_kernel "network card, a VLAN device with a MAC address of its own" "--mode generic --disable-rx-vlan-offload" host0 \
    2:2 $untagged client0 2:2 $tagged client0.100
by_the_program "network card, a VLAN device with a MAC address of its own" 8
