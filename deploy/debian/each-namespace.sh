# Read by the packages' scripts: has icmp-ctl do something in each network namespace where its program is loaded: this one, and those that `ip netns` knows.
# Fails where one of them did.
each_namespace() {
    # The pins of another root, such as the one around a chroot, are not this package's.
    [ -d /sys/fs/bpf/icmp-ctl ] || return 0
    failed=0
    for namespace in /proc/self/ns/net /run/netns/*; do
        [ -e "$namespace" ] || continue
        if [ "$namespace" != /proc/self/ns/net ] && [ "$namespace" -ef /proc/self/ns/net ]; then continue; fi
        status=0
        nsenter --net="$namespace" icmp-ctl status >/dev/null 2>&1 || status=$?
        # 3: nothing is loaded there.
        [ "$status" -ne 3 ] || continue
        nsenter --net="$namespace" icmp-ctl "$@" || failed=1
    done
    return "$failed"
}
