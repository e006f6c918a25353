//! Another's XDP program on an interface: what it is, who holds it, and what takes it off.

use aya::programs::{ProgramInfo, loaded_programs};
use nix::unistd::Pid;

use crate::finding::{Finding, State};
use crate::host::netlink::{Link, Xdp};
use crate::kernel::bpf::link_on;

/// How it is attached.
enum Attachment {
    /// By a link, which stays as long as a process or a pin holds it.
    Link { id: u32, holder: Option<(Pid, String)> },
    /// To the interface itself, where it stays until it is taken off.
    Interface,
}

/// That it is in the way, and what takes it off.
pub(super) fn finding(link: &Link, xdp: Xdp) -> Finding {
    let attachment = match link_on(link.index, xdp.program_id) {
        Some(id) => Attachment::Link { id, holder: holder(id) },
        None => Attachment::Interface,
    };
    let what = format!(
        "another XDP program is attached, {} with id {} ({} mode)",
        program_name(xdp.program_id),
        xdp.program_id,
        xdp.mode,
    );
    let (why, command) = removal(&link.name, xdp.mode, &attachment);
    Finding::new("programs", State::Broken, what, why).on(&link.name).fixed_by(command)
}

/// Who has it attached, and the command that takes it off.
fn removal(interface: &str, mode: &str, attachment: &Attachment) -> (String, String) {
    match attachment {
        Attachment::Link { id, holder: Some((pid, name)) } => (
            format!("{name} (process {pid}) holds it by link {id}, and would have to be stopped"),
            format!("bpftool link detach id {id}"),
        ),
        Attachment::Link { id, holder: None } => {
            (format!("it is held by link {id}, which is pinned"), format!("bpftool link detach id {id}"))
        }
        Attachment::Interface => {
            let word = match mode {
                "native" => "xdpdrv",
                "generic" => "xdpgeneric",
                "offload" => "xdpoffload",
                _ => "xdp",
            };
            (
                "the tool that attached it takes it off".to_owned(),
                format!("ip link set dev {interface} {word} off"),
            )
        }
    }
}

fn program_name(id: u32) -> String {
    let info: Option<ProgramInfo> = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
    info.and_then(|info| info.name_as_str().map(ToOwned::to_owned))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "one without a name".to_owned())
}

/// A process that has the link open, of those that can be asked.
fn holder(link_id: u32) -> Option<(Pid, String)> {
    let line = format!("link_id:\t{link_id}");
    let has_it = |process: &std::path::Path| {
        let files = std::fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_to_string(file.path()).ok())
            .any(|text| text.lines().any(|found| found == line))
    };
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        if !has_it(&entry.path()) {
            return None;
        }
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        Some((Pid::from_raw(pid), name.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_program_off_goes_by_how_it_is_attached() {
        for (mode, attachment, holder, command) in [
            ("native", Attachment::Interface, "", "ip link set dev eth0 xdpdrv off"),
            ("generic", Attachment::Interface, "", "ip link set dev eth0 xdpgeneric off"),
            ("offload", Attachment::Interface, "", "ip link set dev eth0 xdpoffload off"),
            ("native", Attachment::Link { id: 7, holder: None }, "pinned", "bpftool link detach id 7"),
            (
                "generic",
                Attachment::Link { id: 7, holder: Some((Pid::from_raw(9), "xdp-filter".to_owned())) },
                "xdp-filter (process 9) holds it by link 7",
                "bpftool link detach id 7",
            ),
        ] {
            let (why, found) = removal("eth0", mode, &attachment);
            assert!(found == command && why.contains(holder), "{why} {found}");
        }
    }
}
