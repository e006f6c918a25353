//! What the integration tests share: worlds to test in (namespaces, wires), frames to test with, judges of the outcome.
//!
//! Nothing here takes the code under test at its word: checksums, parsing and the comparison with the expected reply are
//! written a second time, in the plainest form, so that an error has to be made twice to go unnoticed.
//!
//! | room | owns |
//! |---|---|
//! | [`netns`] | network namespaces as guards, the pair every test stands on |
//! | [`xdp`] | the two-instruction program that a veth peer needs |
//! | [`wire`] | packet sockets: what really crossed the wire |
//! | [`process`] | programs under test: run to the end, or watched line by line |
//! | [`folder`] | files that a test writes |
//! | [`made`] | files of the repository that are made from the program |
//! | [`ctl`] | finding and calling `icmp-ctl`, reading its JSON |
//! | [`host`] | the host of the vectors, in the kernel's maps and in memory |
//! | [`packet`] | building and verifying echo frames |
//! | [`generate`] | random frames from a seed |
//! | [`older`] | an instance as an earlier version of the map ABI had it |
//! | [`interpreter`] | which rule decides, found by asking one after the other |
//! | [`oracle`] | which frames may be answered, read from the rules a second time |
//! | [`queries`] | what shipped queries of Prometheus ask for |
//! | [`vectors`], [`comparator`] | the golden frames and the rules by which a reply is judged |
//!
//! Tests that need root or a program that is not installed say so and are skipped; with `ICMP_TESTS_NO_SKIP=1` in the
//! environment a skip is a failure, so that CI can't turn green by testing nothing.

pub mod capture;
pub mod comparator;
pub mod ctl;
pub mod faults;
pub mod filters;
pub mod folder;
pub mod generate;
pub mod host;
pub mod http;
pub mod interpreter;
pub mod made;
pub mod netns;
pub mod older;
pub mod oracle;
pub mod packet;
pub mod process;
pub mod queries;
pub mod readers;
pub mod transcript;
pub mod vectors;
pub mod wire;
pub mod xdp;

/// True if the test can run here: as root, with all of `programs` installed. Otherwise prints why not, or panics where
/// skipping is forbidden.
///
/// ```no_run
/// if !icmp_tests::can_run(&["fping"]) {
///     return;
/// }
/// ```
#[must_use]
pub fn can_run(programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return skip("this test makes network namespaces and loads a program: run it as root");
    }
    match programs.iter().find(|program| !process::is_installed(program)) {
        Some(missing) => skip(&format!("{missing} is not installed")),
        None => true,
    }
}

fn skip(reason: &str) -> bool {
    assert!(
        std::env::var_os("ICMP_TESTS_NO_SKIP").is_none_or(|v| v != "1"),
        "skipping is forbidden here: {reason}"
    );
    eprintln!("skipped: {reason}");
    false
}
