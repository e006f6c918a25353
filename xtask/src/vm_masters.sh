# Sourced by vm_init.sh, after vm_vlans.sh whose functions it uses: what takes in the frames of other devices, of modules that most machines
# that run the tests do not have. There is no VLAN device on any of them.

# The network cards of the rows before stay, which have these names.
$ip link set host0 down
$ip link set host0 name card0
with_client $ip link set client0 down
with_client $ip link set client0 name card0

# bonds MODE OPTIONS…: on each side a bond of that mode, over two veths.
bonds() {
    mode=$1; shift
    for device in host0 host1 bond0; do $ip link del $device 2>/dev/null; done
    with_client $ip link del cbond 2>/dev/null
    with_client $ip link add cbond type bond mode "$mode" miimon 20 "$@"
    $ip link add bond0 address $host_mac type bond mode "$mode" miimon 20 "$@"
    for number in 0 1; do
        $ip link add host$number type veth peer name client$number netns $client
        with_client $ip link set client$number master cbond
    done
    $ip link set host0 master bond0
    with_client $ip link set cbond up
    with_client $ip addr add 192.0.2.2/24 dev cbond
    $ip link set bond0 up
    $ip addr add $untagged/24 dev bond0
    with_client $ip neigh replace $untagged lladdr $host_mac dev cbond
    # What XDP sends over a veth arrives where the other end has a program too.
    check "$row: client's program" with_client icmp-ctl attach cbond --mode native
}

# active PORT: of both bonds, the port of this number.
active() {
    $ip link set bond0 type bond active_slave "host$1"
    with_client $ip link set cbond type bond active_slave "client$1"
}

# answers NUMBER WHAT [ADDRESS]: all of two pings are answered, and by the program within some seconds, after which no ping has been lost.
answers() {
    lost=0 tries=0 before=$(answered)
    while [ $tries -lt 50 ]; do
        tries=$((tries + 1))
        [ "$(received "${3:-$untagged}")" = 2 ] || lost=$((lost + 1))
        if [ $(($(answered) - before)) -ge "$1" ]; then break; fi
    done
    if [ $(($(answered) - before)) -ge "$1" ] && [ $lost = 0 ]; then pass "$row: $2"; else
        fail "$row: $2: $lost of $tries times two pings were not all answered; $(($(answered) - before)) by the program, not $1;" \
            "$(icmp-ctl show counters -j | compact)"
    fi
}

# with_serve [DEVICE]: follows the host in the background.
with_serve() {
    printf 'interfaces = ["%s"]\n' "${1:-bond0}" >/tmp/serve.toml
    icmp-ctl serve -f /tmp/serve.toml >/tmp/serve 2>&1 &
    serve=$!
}
without_serve() {
    kill $serve; wait $serve
    icmp-ctl detach --all >/dev/null
    with_client icmp-ctl detach --all >/dev/null
    sed 's/^/    /' /tmp/serve
}
until_listening() { for _ in 1 2 3 4 5 6 7 8 9 10; do icmp-ctl status >/dev/null 2>&1 && break; sleep 0.5; done; }

row="a bond, active-backup"
bonds active-backup
$ip link set host1 master bond0
active 0
check "$row: attach" icmp-ctl attach bond0 --mode native
port_is_refused "$row" host0 bond0
refused "$row: explain" 0 '^verdict  *answer' icmp-ctl explain --from 192.0.2.2 --to $untagged
refused "$row: explain on a port names the bond" 1 '`-i bond0` is meant' icmp-ctl explain -i host0 --from 192.0.2.2 --to $untagged
answers 2 "its active port"
before=$(answered)
with_client $ip link set cbond type bond active_slave client1
none=$(received $untagged)
if [ "$none" = 0 ] && [ "$(answered)" = "$before" ]; then pass "$row: nothing that comes in on a port that stands by"; else
    fail "$row: $none pings that came in on a port that stands by, $(($(answered) - before)) by the program"
fi
icmp-ctl detach --all >/dev/null
with_serve
until_listening
active 1
answers 2 "after fail-over"
active 0
answers 2 "and back"
without_serve

# Which port a flow takes is by the MAC addresses.
row="a bond, balance-xor"
bonds balance-xor xmit_hash_policy layer2
with_serve
until_listening
answers 2 "one port"
check "$row: another port" $ip link set host1 master bond0
for mac in 02:00:00:00:01:01 02:00:00:00:01:02; do
    with_client $ip link set cbond address $mac
    with_client $ip neigh replace $untagged lladdr $host_mac dev cbond
    $ip neigh flush dev bond0
    answers 2 "from $mac"
done
without_serve

row="a bond, 802.3ad"
bonds 802.3ad lacp_rate fast
$ip link set host1 master bond0
# LACP takes some seconds.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ "$(received $untagged)" = 2 ] && break; done
check "$row: attach, generic" icmp-ctl attach bond0 --mode generic
answers 2 "in generic mode"
icmp-ctl detach --all >/dev/null
with_serve
until_listening
answers 2 "all ports"
without_serve
for device in bond0 host0 host1; do $ip link del $device; done
with_client $ip link del cbond

# The kernel's answers leave by any port, so the client takes them in at both. What comes in for another port's MAC address is the kernel's.
for mode in balance-alb balance-tlb; do
    row="a bond, $mode"
    $ip link add bond0 address $host_mac type bond mode $mode miimon 20
    for number in 0 1; do
        $ip link add host$number type veth peer name client$number address 02:00:00:00:01:00 netns $client
        with_client $ip link set client$number up
        $ip link set host$number master bond0
    done
    $ip link set bond0 up
    $ip link set bond0 type bond active_slave host0
    $ip addr add $untagged/24 dev bond0
    $ip neigh replace 192.0.2.2 lladdr 02:00:00:00:01:00 dev bond0
    with_client $ip addr add 192.0.2.2/24 dev client0
    plain='' attached='' by_the_program=''
    # to DEVICE NUMBER: of two pings to its MAC address out of the client's port of this number, how many are answered.
    to() {
        with_client $ip route replace $untagged/32 dev "client$2" src 192.0.2.2
        with_client $ip neigh replace $untagged lladdr "$(cat "/sys/class/net/$1/address")" dev "client$2"
        received $untagged
    }
    # In an emulator the first packets may find ports that are not up yet.
    for _ in 1 2 3; do [ "$(to bond0 0)" = 2 ] && break; done
    for way in "bond0 0" "host1 1"; do
        # shellcheck disable=SC2086
        plain="$plain $(to $way)"
    done
    check "$row: attach" icmp-ctl attach bond0
    for way in "bond0 0" "host1 1"; do
        before=$(answered)
        # shellcheck disable=SC2086
        attached="$attached $(to $way)" by_the_program="$by_the_program $(($(answered) - before))"
    done
    if [ "$attached $by_the_program" = "$plain  2 0" ]; then pass "$row: like the kernel alone, which answers$plain"; else
        fail "$row: the kernel alone answers$plain, with the program$attached of which it$by_the_program"
    fi
    icmp-ctl detach --all >/dev/null
    for device in bond0 host0 host1; do $ip link del $device; done
done

row="a VRF"
$ip link add host0 address $host_mac type veth peer name client0 netns $client
$ip link add vrf0 type vrf table 10
$ip link set vrf0 up
$ip link set host0 master vrf0
$ip link set host0 up
with_client $ip link set client0 up
with_client $ip addr add 192.0.2.2/24 dev client0
$ip addr add $untagged/24 dev host0
$ip addr add 198.51.100.1/32 dev vrf0
# The module has made one.
$ip link set dummy0 up
$ip addr add 198.51.100.2/32 dev dummy0
with_client $ip route add 198.51.100.0/24 via $untagged
# Its address, that of the VRF, and one that is not in its table.
addresses="$untagged 198.51.100.1 198.51.100.2"
check "$row: attach" icmp-ctl attach host0 --mode generic
# There is no way back but by its table.
refused "$row: explain" 0 'nothing that is known of stops it' icmp-ctl explain --from 192.0.2.2 --to 198.51.100.1 --type 8/1
icmp-ctl detach --all >/dev/null

# vrf_decides BY_THE_PROGRAM: so many pings to each address are answered by the program, and as many at all as by the kernel alone.
vrf_decides() {
    plain='' attached='' by_the_program=''
    for address in $addresses; do plain="$plain $(received "$address")"; done
    check "$row: attach" icmp-ctl attach host0 --mode generic
    for address in $addresses; do
        before=$(answered)
        attached="$attached $(received "$address")" by_the_program="$by_the_program $(($(answered) - before))"
    done
    if [ "$attached" = "$plain" ] && [ "$by_the_program" = "$1" ]; then pass "$row: like the kernel alone, which answers$plain"; else
        fail "$row: the kernel alone answers$plain, with the program$attached of which it$by_the_program"
    fi
}
vrf_decides " 2 2 0"
icmp-ctl detach --all >/dev/null
row="a VRF that is down"
$ip link set vrf0 down
vrf_decides " 0 0 0"
is "$row: pings that the kernel alone answers" "${plain% *}" " 0 0"
refused "$row: explain" 0 'is in the VRF vrf0, which is down' icmp-ctl explain --from 192.0.2.2 --to $untagged
refused "$row: doctor" 1 'fix: ip link set dev vrf0 up' icmp-ctl doctor host0
icmp-ctl detach --all >/dev/null
$ip link set vrf0 up
row="a VRF from whose table a local route was deleted"
# A card that is down has the other one too, and a local route to it in the table that is looked at first.
$ip addr add 192.0.2.7/24 dev host0
$ip route del local 192.0.2.7 dev host0 table 10
with_client $ip neigh replace 192.0.2.7 lladdr $host_mac dev client0
addresses="192.0.2.7 198.51.100.1 198.51.100.2"
vrf_decides " 0 2 0"
is "$row: pings that the kernel alone answers" "${plain% *}" " 0 2"
icmp-ctl detach --all >/dev/null
$ip link del vrf0

# Not every kernel has bridges that filter VLANs.
row="a port of a bridge"
$ip link add br0 address $host_mac type bridge
$ip link set host0 master br0
$ip link set br0 up
$ip addr flush dev host0
$ip addr add $untagged/24 dev br0
check "$row: attach" icmp-ctl attach host0 --mode generic
answers 2 "the address of the bridge"
$ip link set br0 type bridge vlan_filtering 1
check "$row: attach again" icmp-ctl attach host0
before=$(answered) replies=$(received $untagged)
if [ "$replies $(($(answered) - before))" = "2 0" ]; then pass "$row: a bridge that filters VLANs answers itself"; else
    fail "$row: $replies of two pings were answered, $(($(answered) - before)) by the program, on a bridge that filters VLANs"
fi
icmp-ctl detach --all >/dev/null
$ip link del br0

# Of a veth it is not known whether tags are missing; of the cards of the rows before it is that none are.
row="a bridge that filters VLANs, a card"
$ip addr flush dev card0
for device in host0.100 host0.31; do $ip link del $device; done
$ip link add br0 address $host_mac type bridge vlan_filtering 1
$ip link set card0 master br0
$ip link set card0 up
$ip link set br0 up
with_client $ip link set card0 up
with_client $ip link set client0.100 up
$ip addr add $untagged/24 dev br0
bridge vlan add dev card0 vid 100
bridge vlan add dev br0 vid 100 self
vlan br0 100 $tagged
# Not those for the untagged address in VLAN 100.
like_the_kernel "$row" "--mode generic --disable-rx-vlan-offload" card0 \
    2:2 $untagged card0 2:2 $tagged client0.100 2:2 $untagged client0.100
by_the_program "$row" 8
bridge vlan del dev br0 vid 1 self
row="a port of another VLAN than the bridge's own"
like_the_kernel "$row" "--mode generic" card0 0:0 $untagged card0
by_the_program "$row" 0
row="an access port that is a card"
bridge vlan add dev card0 vid 100 pvid untagged
$ip route add 192.0.2.2/32 dev br0.100
like_the_kernel "$row" "--mode generic" card0 2:2 $tagged card0 2:0 $tagged client0.100
# With a tag the answer has none, so it is left to the kernel.
by_the_program "$row" 4
bridge vlan set dev card0 vid 100 state blocking
like_the_kernel "$row, blocked" "--mode generic" card0 0:0 $tagged card0
bridge vlan set dev card0 vid 100 state forwarding
row="an access port, with serve"
with_client $ip neigh replace $tagged lladdr $host_mac dev card0
with_client $ip route replace $tagged/32 dev card0
with_serve card0
until_listening
for change in "del dev card0 vid 100" "set dev card0 vid 100 state blocking"; do
    answers 2 "before bridge vlan $change" $tagged
    # shellcheck disable=SC2086
    bridge vlan $change
    echo "    $(received $tagged -c 100 -i 0.01) times 10 ms until serve has followed"
    before=$(answered) replies=$(received $tagged)
    if [ "$replies $(($(answered) - before))" = "0 0" ]; then pass "$row: bridge vlan $change is followed"; else
        fail "$row: $replies of two pings were answered, $(($(answered) - before)) by the program, after bridge vlan $change"
    fi
    bridge vlan add dev card0 vid 100 pvid untagged
done
without_serve
$ip link del br0
with_client $ip link set card0 down

row="a dummy device"
$ip addr replace $untagged/24 dev host0
for own in interface host; do
    printf '[responder]\nown = "%s"\n' $own >/tmp/own.toml
    check "$row: attach" icmp-ctl attach host0 --mode generic -f /tmp/own.toml
    before=$(answered) replies=$(received 198.51.100.2) by=$(($(answered) - before))
    expected=0; [ $own = host ] && expected=2
    if [ "$replies $by" = "2 $expected" ]; then pass "$row: own = $own"; else
        fail "$row: own = $own: $replies of two pings were answered, $by by the program"
    fi
    icmp-ctl detach --all >/dev/null
done
