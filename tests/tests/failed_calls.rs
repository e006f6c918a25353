//! Calls to the kernel that fail: what is in force stays, and nothing is taken for gone that could only not be asked about.
//!
//! Owns failures that strace injects into the program as it is shipped.

use std::fs;

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Pair};

/// More calls than one command makes of a kind.
const MOST: usize = 200;

#[test]
fn a_host_that_cannot_be_asked_about_its_interfaces_is_none_whose_interfaces_are_gone() {
    if !can_run(&["ip", "nsenter", "strace"]) {
        return;
    }
    let pair = Pair::new(1500);
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    let folder = Folder::new();
    let log = folder.file("trace", "");
    let program = ctl::program().to_str().expect("a path in UTF-8");
    let mut refused = 0;
    for (call, error) in
        [("sendto", "ENOMEM"), ("sendto", "EINTR"), ("recvfrom", "ENOMEM"), ("recvfrom", "ENOSPC")]
    {
        for number in 1..MOST {
            let inject = format!("inject={call}:error={error}:when={number}");
            let options = ["-f", "-o", &log, "-e", &format!("trace={call}"), "-e", &inject, program];
            let verb = ["limit", "set", "errors", &format!("{}/s", 1000 + number)];
            let done = host.run("strace", &[&options[..], &verb].concat());
            if !fs::read_to_string(&log).expect("a trace").contains("INJECTED") {
                break;
            }
            let on = host.ip(&format!("link show {HOST_IF}"));
            assert!(on.contains("prog/xdp"), "{inject}: {done}");
            assert!(!done.stderr.contains("moved"), "{inject}: {done}");
            refused += u32::from(done.code != Some(0));
        }
    }
    assert!(refused > 0, "some of these calls are needed");
    let _said = ctl::run(host, "limit set errors 900/s").expect_success();
}
