//! Builds the eBPF object that is measured and puts it where `object.rs` embeds it.

fn main() -> anyhow::Result<()> {
    ebpf_build::build("icmp-bench-ebpf", "", &["bench/ebpf", "icmp-ebpf"])
}
