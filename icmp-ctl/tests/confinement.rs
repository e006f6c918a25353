//! Owns the proof that `serve` cannot use what it has given up, by trying it.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use caps::{CapSet, Capability, CapsHashSet};
use icmp_ctl::kernel::confine::{confine, give_up_connecting};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::get_no_new_privs;
use nix::unistd::geteuid;

/// Tries something with a folder that has a file in it and a port that is listened on.
type Attempt = fn(&Path, u16) -> Result<()>;

/// What must fail, each by itself.
const FORBIDDEN: [(&str, Attempt); 7] = [
    ("making a file", |folder, _| fs::write(folder.join("new"), "").map(|_| ())),
    ("writing a file", |folder, _| OpenOptions::new().write(true).open(folder.join("file")).map(|_| ())),
    ("removing a file", |folder, _| fs::remove_file(folder.join("file"))),
    ("connecting", |_, port| TcpStream::connect(("127.0.0.1", port)).map(|_| ())),
    ("mounting", |folder, _| {
        let nothing: Option<&str> = None;
        Ok(mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), nothing)?)
    }),
    ("a namespace of its own", |_, _| Ok(unshare(CloneFlags::CLONE_NEWNET)?)),
    ("another user", |_, _| Command::new("true").uid(65534).status().map(|_| ())),
];

#[test]
fn what_serve_gives_up_is_gone_and_what_it_needs_stays() {
    assert!(geteuid().is_root(), "this test gives up root's capabilities");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "text").expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    TcpStream::connect(("127.0.0.1", port)).expect("nothing is given up yet");
    let checked = TcpListener::bind("127.0.0.1:0").expect("a port");
    let of_check = checked.local_addr().expect("bound");
    // Of this thread only.
    let tried = std::thread::scope(|scope| {
        let confined = scope.spawn(|| {
            confine().expect("it can be given up");
            give_up_connecting(&[of_check.port()]).expect("it can be given up");
            let connected = TcpStream::connect(of_check).map(|_| ());
            let held = [CapSet::Effective, CapSet::Permitted, CapSet::Bounding]
                .map(|set| caps::read(None, set).expect("its own"));
            let results = FORBIDDEN.map(|(what, attempt)| (what, attempt(folder.path(), port)));
            let text = fs::read_to_string(folder.path().join("file"));
            // What is run is no freer.
            let child = Command::new("touch").arg(folder.path().join("new")).status();
            (held, get_no_new_privs(), results, text, child, connected)
        });
        confined.join().expect("it ran")
    });
    let (held, no_new_privs, results, text, child, connected) = tried;
    connected.expect("a check's port");
    let kept =
        [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];
    let kept = CapsHashSet::from(kept);
    assert_eq!(held, [kept.clone(), kept.clone(), kept]);
    assert!(no_new_privs.expect("the kernel says"));
    for (what, result) in results {
        let kind = result.as_ref().map_err(Error::kind);
        assert_eq!(kind, Err(ErrorKind::PermissionDenied), "{what}: {result:?}");
    }
    assert_eq!(text.expect("reading stays"), "text");
    assert!(!child.expect("it ran").success(), "a program that it runs");
    assert!(!folder.path().join("new").exists());
}
