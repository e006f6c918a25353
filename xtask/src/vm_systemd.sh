#!/bin/bash
# What a VM checks whose first process is systemd: see vm_systemd.rs. A unit of its own runs this, and vm_test.rs reads the lines PASS, FAIL and DONE.
# The units are as they are shipped. Everything here that waits polls, and gives up after a minute.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo "kernel $(uname -r)"
for module in /modules/*.ko; do insmod "$module" || echo "FAIL insmod $module"; done

pass() { echo "PASS $*"; }
fail() { echo "FAIL $*"; }
# check NAME COMMAND…: what the command says is shown when it fails.
check() {
    what=$1; shift
    if "$@" >/tmp/said 2>&1; then pass "$what"; else fail "$what (exit $?): $*"; sed 's/^/    /' /tmp/said; fi
}
# soon NAME COMMAND…: the command succeeds within a minute.
soon() {
    what=$1; shift
    for _ in $(seq 120); do
        if "$@" >/tmp/said 2>&1; then pass "$what"; return; fi
        sleep 0.5
    done
    fail "$what, within a minute: $*"; sed 's/^/    /' /tmp/said
}
property() { systemctl show --property "$1" --value icmp-ctl; }
has() { [ "$(property "$1")" = "$2" ]; }
status_of() { grep -q "^$1:[[:space:]]*$2\$" "/proc/$(property MainPID)/status"; }
logged() { journalctl --unit icmp-ctl --output cat | grep -q "$1"; }
# It says so where it cannot give up writing.
confined() { logged 'host0: attached' && ! logged Landlock; }
program() { icmp-ctl status -j | tr -d ' \n' | grep -o '"program_id":[0-9]*'; }
in_client() { ip netns exec client "$@"; }
pings() { in_client ping -c 3 -W 2 -i 0.2 192.0.2.1 && in_client ping -c 3 -W 2 -i 0.2 2001:db8::1; }

ip netns add client
ip link add host0 type veth peer name client0 netns client
ip address add 192.0.2.1/24 dev host0
ip address add 2001:db8::1/64 dev host0 nodad
ip link set host0 up
ip -n client address add 192.0.2.2/24 dev client0
ip -n client address add 2001:db8::2/64 dev client0 nodad
ip -n client link set lo up
ip -n client link set client0 up
nft add table inet t
nft add chain inet t in '{ type filter hook input priority 0; }'
nft add rule inet t in icmp type echo-request drop

cat >/etc/icmp-ctl/config.toml <<'END'
interfaces = ["host0"]

[responder]
ttl = 64

[[responder.vip]]
prefix = "198.51.100.7/32"
check = "systemd:systemd-journald.service"

[events]
command = ["/usr/bin/logger", "-t", "event-of-icmp-ctl"]
END
cat >/etc/icmp-ctl/client.toml <<'END'
interfaces = ["client0"]
[metrics]
listen = "127.0.0.1:9817"
END

check "the unit starts" systemctl start icmp-ctl
systemctl status --no-pager --full icmp-ctl
check "the unit of another namespace starts" systemctl start icmp-ctl@client
check "host0 is attached in native mode" sh -c 'icmp-ctl status | grep -q "^host0 *native"'
check "client0 is attached in its namespace" sh -c 'nsenter --net=/run/netns/client icmp-ctl status | grep -q "^client0 *native"'
# The kernel drops them, as the rule above says.
check "pings are answered" pings
check "it may ask nftables about its rules" logged 'icmp type echo-request drop'
check "it has the capabilities of the unit and no other" status_of CapBnd 000000c000003000
check "it uses no other" status_of CapPrm 000000c000003000
check "it gets no new privileges" status_of NoNewPrivs 1
check "system calls are filtered" status_of Seccomp 2
check "it gives up writing with Landlock" confined
soon "a unit is asked about for a VIP" sh -c 'icmp-ctl show addresses | grep -q "VIP, healthy"'
soon "a command gets events" sh -c 'journalctl --identifier event-of-icmp-ctl | grep -q attached'
check "a member of the group looks without root" \
    setpriv --reuid=65534 --regid=65534 --groups="$(getent group icmp-ctl | cut -d: -f3)" --no-new-privs icmp-ctl status
check "nobody else does" sh -c '! setpriv --reuid=65534 --regid=65534 --clear-groups icmp-ctl status'

ip address add 192.0.2.77/24 dev host0
soon "an address is followed" sh -c 'icmp-ctl show addresses | grep -q 192.0.2.77'
sed -i 's/^ttl = 64/ttl = 99/' /etc/icmp-ctl/config.toml
check "the unit is reloaded" systemctl reload icmp-ctl
soon "what was read again is in force" sh -c 'icmp-ctl show config | grep -q "^ttl = 99"'
echo broken >>/etc/icmp-ctl/config.toml
check "the unit is reloaded with a wrong file" systemctl reload icmp-ctl
soon "a wrong file is said in the journal" logged 'what was in force stays'
check "and in the unit's status" sh -c 'systemctl show --property StatusText icmp-ctl | grep -q "line .*, column"'
check "and changes nothing" sh -c 'icmp-ctl show config | grep -q "^ttl = 99"'
sed -i '/^broken$/d' /etc/icmp-ctl/config.toml

before=$(program)
mkdir -p /run/systemd/system/icmp-ctl.service.d
printf '[Service]\nWatchdogSec=5\n' >/run/systemd/system/icmp-ctl.service.d/watchdog.conf
systemctl daemon-reload
check "the unit restarts" systemctl restart icmp-ctl
sleep 8
if has NRestarts 0; then pass "the watchdog leaves it alone"; else fail "the watchdog has ended it"; fi
kill -STOP "$(property MainPID)"
soon "the watchdog ends one that hangs" has NRestarts 1
soon "and it runs again" has ActiveState active
kill -KILL "$(property MainPID)"
soon "one that is killed is started again" has NRestarts 2
soon "and runs" has ActiveState active
check "the unit stops" systemctl stop icmp-ctl
check "it has ended by itself" has Result success
check "pings are answered without it" pings
if [ "$(program)" = "$before" ]; then pass "by the same program"; else fail "program $before was, and $(program) is there"; fi
check "the unit starts over what is attached" systemctl start icmp-ctl
if [ "$(program)" = "$before" ]; then pass "and leaves the program"; else fail "program $before was, and $(program) is there"; fi
journalctl --no-pager --output short-monotonic --unit icmp-ctl --unit icmp-ctl@client
echo DONE
systemctl poweroff --force
