//! Builds the eBPF object that is measured and puts it where `object.rs` embeds it.

fn main() -> anyhow::Result<()> {
    // The packet path's maps and context are icmp-ebpf's.
    ebpf_build::build("icmp-bench-ebpf", "", &["bench/ebpf", "icmp-ebpf/src"])
}
