_icmp_ctl() {
    local globbing candidate i
    globbing=$(shopt -po noglob)
    set -o noglob
    _clap_complete_icmp_ctl "$@"
    eval "$globbing"
    [[ $2 == [\"\']* ]] && return
    for i in "${!COMPREPLY[@]}"; do
        candidate=${COMPREPLY[i]}
        [[ $candidate == *[^A-Za-z0-9_./:=,@%+-]* ]] && printf -v "COMPREPLY[i]" %q "$candidate"
    done
}
