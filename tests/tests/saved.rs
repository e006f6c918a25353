//! The policy in force can be shown as a configuration, saved to a file, and loaded from it again.
//!
//! Owns that no part of it is lost on the way, that the file is written whole or not at all, and that a message says if a change is not saved.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, Pair};
use icmp_tests::process::{self, Finished, Watch};
use nix::libc;
use nix::sys::signal::Signal;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const LIMIT: Duration = Duration::from_secs(60);

/// Something of everything, with comments.
const RICH: &str = r#"# The edge of pop3.
[responder]
verify = "header"            # the fleet is trusted
own = "host"
vips = [
    "198.51.100.0/24",       # anycast
    "2001:db8:1::/64",
]
hop-limit = 7

[limits]
# Agreed with the monitoring team.
per-source = { rate = "100/min", burst = 500, ipv4-prefix = 24 }
errors = { rate = "2k/s" }   # was 1k/s

[policy]
preset = "router"

[policy.ipv4]
timestamp-request = "drop"   # nobody's clock

[policy.checks]
quote = "drop"

# They may.
[[policy.rule]]
name = "monitors"
from = ["file:lists/monitors.txt", "2001:db8:77::/48"]
type = "echo-request"
action = "answer"
limit = "unlimited"

# Only looked at for now.
[[policy.rule]]
name = "scanners"
from = "203.0.113.0/24"
type = [13, "host-unreachable"]
family = "ipv4"
action = "drop"
audit = true

[metrics]
listen = "127.0.0.1:9817"    # another one has 9816
"#;

#[test]
fn a_current_folder_that_is_gone_is_said_to_be_gone() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::new(&pair.host, HOST_IF);
    let folder = Folder::new();
    let config = folder.file("c.toml", "");
    let (path, program) = (folder.path().display(), ctl::program().display());
    let script = format!(
        "mkdir {path}/gone; cd {path}/gone; rmdir {path}/gone; exec {program} apply -f {config} --save=relative"
    );
    let done = pair.host.run("sh", &["-c", &script]);
    assert!(done.code == Some(1) && done.stderr.contains("the current folder is gone"), "{done}");
    assert!(!done.stderr.contains("mend it"), "{done}");
}

#[test]
fn what_is_in_force_is_shown_as_the_configuration_that_apply_takes() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let presets = ["host", "router", "strict", "observe"].map(|p| format!("[policy]\npreset = {p:?}\n"));
    for text in presets.iter().map(String::as_str).chain([RICH]) {
        let file = rich(&folder, text);
        let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
        let _said = ctl::run(host, "limit set replies 12345.67/s --burst 777").expect_success();
        let _said = ctl::run(host, "rule add x --from 10.0.0.0/8,10.9.0.1 --type echo-request --action drop");
        // Without the file there is nobody's word for anything.
        for keeps_file in [true, false] {
            if !keeps_file {
                fs::remove_file(&file).expect("it was there");
            }
            let shown = folder.file("shown.toml", &ctl::run(host, "show config").expect_success());
            let done = ctl::run(host, &format!("apply -f {shown} --check"));
            assert_eq!((done.code, done.stdout.as_str()), (DONE, "no change\n"), "{done}\n{}", read(&shown));
        }
        let document = json(host, "show config -j");
        assert_eq!(document["schema"], 1);
        assert_eq!(document["config"]["limits"]["replies"]["rate"], "12345.67/s");
        assert_eq!(document["config"]["interfaces"], serde_json::json!([HOST_IF]));
        assert_eq!(document["toml"].as_str(), Some(read(folder.path().join("shown.toml")).as_str()));
    }
}

#[test]
fn what_is_saved_comes_back_by_attach_and_by_serve_and_comments_stay() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = rich(&folder, RICH);
    let list = folder.file("typed.txt", "192.0.2.77\n");
    let before = {
        let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
        for change in [
            "limit set replies 5k/s --burst 6000 --save".to_owned(),
            "limit set errors 3k/s --save".to_owned(),
            format!(
                "rule add typed --from file:{list} --type echo-request --action drop --before scanners --save"
            ),
            "rule promote scanners --save --allow-break errors".to_owned(),
        ] {
            let done = ctl::run(host, &change);
            assert!(done.code == DONE && done.stderr.contains(&format!("saved to {file}: ")), "{done}");
        }
        ctl::run(host, "show config").expect_success()
    };
    let text = read(&file);
    for comment in RICH.lines().filter_map(|line| line.split_once('#').map(|(_, comment)| comment)) {
        assert!(text.lines().any(|line| line.ends_with(comment)), "{comment:?} in\n{text}");
    }
    assert!(text.contains("errors = { rate = \"3k/s\" }   # was 1k/s"), "{text}");
    assert!(text.contains("from = [\"file:lists/monitors.txt\", \"2001:db8:77::/48\"]"), "{text}");
    assert!(text.contains(&format!("from = \"file:{list}\"")), "{text}");
    assert!(!text.contains("audit") && text.contains("allow-break = [\"errors\"]"), "{text}");
    let order: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    assert_eq!(order, ["\"monitors\"", "\"typed\"", "\"scanners\""]);
    let same = || {
        assert_eq!(ctl::run(host, "show config").expect_success(), before);
        assert_eq!(ctl::run(host, &format!("apply -f {file} --check")).stdout, "no change\n");
    };
    {
        let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
        same();
    }
    let mut serve = Watch::start(&mut ctl::command(host, &format!("serve -f {file}")));
    serve.wait_for("127.0.0.1:9817", LIMIT);
    same();
    assert_eq!(serve.end_by(Signal::SIGTERM), DONE);
    let _said = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn a_change_that_is_not_saved_is_said_to_be_so_and_one_that_is_is_not() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = folder.file("c.toml", "");
    let other = folder.file("other.toml", "[responder]\nttl = 9\n");
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    let is_said = |done: &Finished| {
        assert_eq!(done.code, DONE, "{done}");
        let times = done.stderr.matches(&format!("what {file} says will be in force")).count();
        assert!(times <= 1 && times == done.stderr.matches("not saved").count(), "{done}");
        times == 1
    };
    for (change, said) in [
        ("limit set replies 5k/s --burst 6000".to_owned(), true),
        ("limit set replies 5k/s --burst 6000".to_owned(), false),
        ("limit set replies 1M/s --burst 100000".to_owned(), false),
        ("rule add x --from 10.0.0.0/8 --type echo-request --action drop --audit".to_owned(), true),
        ("rule promote x".to_owned(), true),
        ("rule del x".to_owned(), false),
        (format!("apply -f {other}"), true),
        (format!("apply -f {other} --check"), false),
        (format!("apply -f {file}"), false),
        (format!("apply -f {other} --confirm 60s"), false),
        ("confirm".to_owned(), true),
        (format!("apply -f {file} --confirm 60s"), false),
        ("rollback".to_owned(), true),
        ("limit set replies 5k/s --burst 6000 --save".to_owned(), false),
        (format!("attach {HOST_IF}"), false),
        ("show config".to_owned(), false),
    ] {
        assert_eq!(is_said(&ctl::run(host, &change)), said, "{change}");
    }
    assert_eq!(ctl::run(host, &format!("apply -f {file} --check")).stdout, "no change\n");
    fs::remove_file(&file).expect("it is there");
    let done = ctl::run(host, "limit set replies 7/s --burst 7");
    assert!(done.stderr.contains(&format!("there is no {file}")), "{done}");
    let done = ctl::run(host, "limit set replies 8/s --burst 7 --save");
    assert!(done.code == DONE && read(&file).contains("8/s"), "{done}");
}

#[test]
fn what_awaits_confirmation_is_saved_once_it_is_confirmed() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let (file, other) =
        (folder.file("c.toml", "# ours\n"), folder.file("other.toml", "[responder]\nttl = 9\n"));
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    assert_eq!(ctl::run(host, &format!("apply -f {other} --confirm 60s --save")).code, Some(2));
    let _said = ctl::run(host, &format!("apply -f {other} --confirm 60s")).expect_success();
    let done = ctl::run(host, "limit set replies 5k/s --burst 6000 --save");
    assert!(done.code == FAILED && done.stderr.contains("icmp-ctl confirm --save"), "{done}");
    assert_eq!(read(&file), "# ours\n");
    assert_eq!(ctl::run(host, "confirm --save").code, DONE);
    assert!(read(&file).contains("ttl = 9") && read(&file).contains("# ours"), "{}", read(&file));
    let done = ctl::run(host, "confirm --save");
    assert!(done.code == FAILED && done.stderr.contains("nothing awaits confirmation"), "{done}");
}

#[test]
fn a_list_that_the_configuration_names_is_no_place_to_save_it() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let _attached = Attached::new(host, HOST_IF);
    // Read as a configuration, it is an empty one.
    let comments = "# Nobody so far.\n";
    let list = folder.file("list", comments);
    let rule =
        "[[policy.rule]]\nname = \"a\"\nfrom = [\"file:list\"]\ntype = \"echo-request\"\naction = \"drop\"\n";
    let config = folder.file("c.toml", rule);
    for verb in [
        format!("apply -f {config} --save={list}"),
        format!("rule add b --from file:{list} --type echo-request --action drop --save={list}"),
    ] {
        let refused = ctl::run(host, &verb);
        assert!(refused.code == FAILED && refused.stderr.contains("is a list of prefixes"), "{refused}");
        assert_eq!(fs::read_to_string(&list).expect("there"), comments);
        assert!(!ctl::run(host, "show config").expect_success().contains("policy.rule"), "{verb}");
    }
}

#[test]
fn what_apply_puts_in_force_is_saved_with_the_words_it_was_given_in() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = folder.file("c.toml", "# Kept.\n[responder]\nttl = 64 # the usual\n");
    chown(&file, Some(1234), Some(5678)).expect("root may");
    let rich = rich(&folder, RICH);
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    let done = ctl::run(host, &format!("apply -f {rich} --save"));
    assert!(done.code == DONE && done.stderr.contains("saved to"), "{done}");
    let text = read(&file);
    let list = format!("file:{}/lists/monitors.txt", folder.path().display());
    for kept in ["# Kept.", "[metrics]\nlisten = \"127.0.0.1:9817\"", &list, "rate = \"100/min\""] {
        assert!(text.contains(kept), "{kept} in\n{text}");
    }
    assert!(!text.contains("ttl"), "{text}");
    let meta = fs::metadata(&file).expect("it is there");
    assert_eq!((meta.uid(), meta.gid()), (1234, 5678));
    // From standard input, and to a file that is named and not there yet.
    let new = folder.path().join("new/c.toml");
    let mut command = ctl::command(host, &format!("apply -f - --save={}", new.display()));
    let done = process::run(command.stdin(Stdio::from(fs::File::open(&file).expect("it is there"))));
    assert_eq!(done.code, DONE, "{done}");
    assert_eq!(ctl::run(host, &format!("apply -f {} --check", new.display())).stdout, "no change\n");
}

#[test]
fn a_configuration_from_a_stream_comes_back_from_no_file_that_is_called_so() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = folder.file("c.toml", "");
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    for stream in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let _noted = ctl::run(host, &format!("attach {HOST_IF} -f {file}")).expect_success();
        let mut command = ctl::command(host, &format!("attach {HOST_IF} -f {stream}"));
        let done = process::run(command.stdin(Stdio::from(fs::File::open(&file).expect("it is there"))));
        assert_eq!(done.code, DONE, "{stream}: {done}");
        let done = ctl::run(host, "limit set replies 7/s --burst 7");
        assert!(done.stderr.contains("is written to /etc/icmp-ctl/config.toml"), "{stream}: {done}");
    }
}

#[test]
fn a_file_that_cannot_be_written_or_read_changes_nothing() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = folder.file("c.toml", RICH.split("# They may.").next().expect("a part"));
    let text = read(&file);
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    let before = ctl::run(host, "limit show -j").expect_success();
    // As on a full disk; the signal that comes with the limit ends nothing, whether whoever runs it ignores it or not.
    for ignored in [true, false] {
        let mut command = ctl::command(host, "limit set replies 5k/s --burst 6000 --save");
        // SAFETY: what is called before exec only makes two system calls.
        unsafe { command.pre_exec(move || refuse_to_write(ignored)) };
        let done = process::run(&mut command);
        assert_eq!(done.code, FAILED, "{done}");
        assert!(done.stderr.contains(&file), "{done}");
        assert_eq!(read(&file), text);
        assert_eq!(ctl::run(host, "limit show -j").expect_success(), before);
    }
    let broken = folder.file("c.toml", "[limits]\nreplies = 5\n");
    let done = ctl::run(host, "limit set replies 5k/s --burst 6000 --save");
    assert!(done.code == FAILED && done.stderr.contains("line 2"), "{done}");
    assert_eq!(read(&broken), "[limits]\nreplies = 5\n");
    assert_eq!(ctl::run(host, "limit show -j").expect_success(), before);
}

#[test]
fn a_file_that_cannot_be_replaced_is_refused_before_anything_changes() {
    let Some(pair) = pair().filter(|_| can_run(&["unshare", "mount", "chattr"])) else { return };
    let host = &pair.host;
    let folder = Folder::new();
    let file = folder.file("c.toml", "[limits]\nreplies = { rate = \"5k/s\", burst = 6000 }\n");
    let text = read(&file);
    let _attached = Attached::with(host, HOST_IF, &format!("-f {file}"));
    let before = ctl::run(host, "limit show -j").expect_success();
    let program = ctl::program().to_str().expect("a path in UTF-8");
    for (fix, free, why) in [
        ("mount --bind $F $F", "umount $F", "is a mount of its own"),
        ("chattr +i $F", "chattr -i $F", "is immutable"),
        ("chattr +a $F", "chattr -a $F", "is append-only"),
        ("chattr +a $(dirname $F)", "chattr -a $(dirname $F)", "its folder is append-only"),
    ] {
        let script = format!(
            "F={file}; {fix}; code=0; $0 limit set errors 2k/s --save || code=$?; {free}; exit $code"
        );
        let done = host.run("unshare", &["--mount", "sh", "-ec", &script, program]);
        assert!(done.code == FAILED && done.stderr.contains(why), "{fix}: {done}");
        assert_eq!(read(&file), text, "{fix}");
        assert_eq!(ctl::run(host, "limit show -j").expect_success(), before, "{fix}");
        assert_eq!(
            fs::read_dir(folder.path()).expect("a folder").count(),
            1,
            "{fix}: nothing is left beside it"
        );
    }
    let _saved = ctl::run(host, "limit set errors 2k/s --save").expect_success();
}

/// Files of more than one byte cannot be written from now on: an error, and a signal, which may be ignored.
fn refuse_to_write(ignored: bool) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // SAFETY: plain system calls with a value that lives until they return.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    if ignored {
        // SAFETY: the disposition is a constant.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
    if limited == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A configuration with its list beside it.
fn rich(folder: &Folder, text: &str) -> String {
    let lists = folder.path().join("lists");
    fs::create_dir_all(&lists).expect("a folder");
    fs::write(lists.join("monitors.txt"), "192.0.2.8\n192.0.2.16/29\n").expect("a list");
    folder.file("rich.toml", text)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("it is there")
}

fn pair() -> Option<Pair> {
    can_run(&["ip", "nsenter"]).then(|| Pair::new(1500))
}

fn json(namespace: &Namespace, arguments: &str) -> Value {
    let text = ctl::run(namespace, arguments).expect_success();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {text}"))
}
