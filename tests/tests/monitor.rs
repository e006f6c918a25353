//! `icmp-ctl monitor`: each event once, for each monitor.
//!
//! Owns the events of the running kernel. icmp-ctl's `observe/events` proves when a flood begins and ends.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use icmp_tests::can_run;
use icmp_tests::ctl::{self, Attached};
use icmp_tests::folder::Folder;
use icmp_tests::netns::{HOST_IF, Namespace, PEER_IF, Pair};
use icmp_tests::packet::Echo;
use icmp_tests::process::Watch;
use icmp_tests::readers::{GROUP, PROGRAM, Readers};
use icmp_tests::wire::Tap;
use icmp_tests::xdp::{Counting, Kind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A source may send ten a second, and all together a hundred.
const LIMITED: &str = "
[limits]
per-source = { rate = \"10/s\", burst = 10 }
per-prefix = { rate = \"unlimited\" }
replies    = { rate = \"100/s\", burst = 100 }
";

/// A monitor that has begun.
fn monitor(host: &Namespace, options: &str) -> Watch {
    let mut monitor = Watch::start(&mut ctl::command(host, &format!("monitor {options}")));
    let _said = monitor.wait_for("telling of events", LIMIT);
    monitor
}

/// The next line about an event of this name.
fn said(watch: &mut Watch, name: &str) -> Value {
    let line = watch.wait_for(&format!("\"event\":\"{name}\""), LIMIT);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The next event of this name.
fn next(monitor: &mut Watch, name: &str) -> Value {
    let event = said(monitor, name);
    assert!(event["schema"] == 1 && event["time"].as_f64().is_some_and(|time| time > 1.7e9), "{event}");
    event
}

/// The names of the events that nobody has waited for.
fn others(monitor: &Watch) -> Vec<String> {
    let events = monitor.heard().iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter_map(|event| Some(event["event"].as_str()?.to_owned())).collect()
}

/// Sends pings for as long as this value is there, some thousand a second; `source` says from whom each is.
struct Flood {
    ends: Arc<AtomicBool>,
    sender: Option<JoinHandle<u32>>,
}

impl Flood {
    fn start(pair: &Pair, source: fn(u32) -> Ipv4Addr) -> Self {
        let tap = pair.peer.enter(|| Tap::open(PEER_IF));
        let ends = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ends);
        let sender = thread::spawn(move || {
            let mut sent = 0;
            while !is_ended.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    let ping =
                        Echo::new(source(sent).into(), Ipv4Addr::new(192, 0, 2, 2).into(), vec![7; 32]);
                    tap.send(&ping.frame()).expect("sent");
                    sent += 1;
                }
                // A rate, and not a wait for something.
                thread::sleep(Duration::from_millis(20));
            }
            sent
        });
        Self { ends, sender: Some(sender) }
    }

    /// Ends it; how many were sent.
    fn end(mut self) -> u32 {
        self.ends.store(true, Ordering::Relaxed);
        self.sender.take().map_or(0, |sender| sender.join().expect("it sends"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_one_source_starts_peaks_and_ends_once_and_is_counted() {
    let Some(pair) = pair() else { return };
    let attached = Attached::configured(&pair.host, HOST_IF, LIMITED);
    let mut monitor = monitor(&pair.host, "-j");
    let flood = Flood::start(&pair, |_| Ipv4Addr::new(198, 51, 100, 9));
    let started = next(&mut monitor, "flood-started");
    for (field, value) in [
        ("source", "198.51.100.9"),
        ("type", "echo-request"),
        ("family", "ipv4"),
        ("interface", HOST_IF),
        ("reason", "limited-source"),
    ] {
        assert_eq!(started[field], value, "{field}: {started}");
    }
    let peak = next(&mut monitor, "flood-peak");
    let rate = peak["packets_per_second"].as_u64().expect("a rate");
    let sent = flood.end();
    let ended = next(&mut monitor, "flood-ended");
    assert!((100..=u64::from(sent)).contains(&rate), "{peak}");
    let (told, counted) = (ended["packets"].as_u64().expect("a count"), attached.counters().verdict("limit"));
    // Of one source all samples are its, so the count is exact but for what came before anybody looked.
    assert!(told <= counted && 10 * told >= 9 * counted, "{ended}, {counted} counted");
    assert!(monitor.end_by(Signal::SIGTERM) == Some(0));
    let floods: Vec<_> = others(&monitor).into_iter().filter(|name| name.contains("flood")).collect();
    assert_eq!(floods, [""; 0], "each once");
}

#[test]
fn a_flood_from_everywhere_is_one_event_and_not_one_of_each_source() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::configured(&pair.host, HOST_IF, LIMITED);
    let mut monitor = monitor(&pair.host, "-j");
    let flood = Flood::start(&pair, |n| Ipv4Addr::from(0xc612_0000 | n.wrapping_mul(40_503) & 0xffff));
    let mut heard = Vec::new();
    for name in ["distributed-flood-started", "distributed-flood-peak"] {
        let event = next(&mut monitor, name);
        assert!(event["source"].is_null() && event["reason"] == "limited-total", "{event}");
    }
    let _sent = flood.end();
    let ended = next(&mut monitor, "distributed-flood-ended");
    assert!(ended["packets"].as_u64().is_some_and(|packets| packets > 1_000), "{ended}");
    assert!(monitor.end_by(Signal::SIGINT) == Some(0));
    heard.extend(others(&monitor));
    heard.retain(|name| name != "lost");
    assert_eq!(heard, ["pressure-started", "pressure-ended"]);
}

#[test]
fn stopped_frames_that_were_not_looked_at_are_said() {
    let Some(pair) = pair() else { return };
    let _attached = Attached::configured(&pair.host, HOST_IF, LIMITED);
    let mut monitor = monitor(&pair.host, "-j");
    let tap = pair.peer.enter(|| Tap::open(PEER_IF));
    let ping = Echo::new([198, 51, 100, 9].into(), Ipv4Addr::new(192, 0, 2, 2).into(), vec![7; 32]);
    for _ in 0..5_000 {
        tap.send(&ping.frame()).expect("sent");
    }
    let lost = next(&mut monitor, "lost");
    assert!(lost["frames"].as_u64().is_some_and(|frames| frames > 0) && lost["events"] == 0, "{lost}");
}

#[test]
fn what_is_changed_is_told_with_who_has_changed_it() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = folder.file("config.toml", LIMITED);
    let mut monitor = monitor(host, "-j");
    let mut run = |words: &str, events: &[&str]| -> Vec<Value> {
        let _said = ctl::run(host, words).expect_success();
        events.iter().map(|name| next(&mut monitor, name)).collect()
    };
    let attached =
        run(&format!("attach {HOST_IF} -f {config}"), &["policy-applied", "attached", "addresses-changed"]);
    assert_eq!((&attached[1]["interface"], &attached[1]["mode"]), (&HOST_IF.into(), &"native".into()));
    assert_eq!(attached[2]["added"][0], "192.0.2.2", "{}", attached[2]);
    let [changed] = &run("limit set errors 700/s", &["policy-applied"])[..] else { panic!("one") };
    assert_eq!((&changed["command"], &changed["uid"]), (&"limit set errors 700/s".into(), &0.into()));
    assert!(changed["user"].as_str().is_some_and(|user| !user.is_empty()), "{changed}");
    let again = format!("apply -f {config} --confirm 50s");
    run(&again, &["policy-applied"]);
    assert_eq!(run("confirm", &["policy-confirmed"])[0]["command"], "confirm");
    run(&again, &["policy-applied"]);
    run("rollback", &["policy-rolled-back"]);
    run(&format!("apply -f {config} --confirm 1s"), &["policy-applied", "policy-timed-out"]);
    host.ip(&format!("address add 192.0.2.99/24 dev {HOST_IF}"));
    let moved = run(&format!("attach {HOST_IF}"), &["addresses-changed"]);
    assert_eq!(
        (&moved[0]["added"][0], moved[0]["removed"].as_array().map(Vec::len)),
        (&"192.0.2.99".into(), Some(0))
    );
    run(&format!("detach {HOST_IF}"), &["detached", "addresses-changed"]);
    // It goes on where nothing is loaded, and where something is again.
    run(&format!("attach {HOST_IF}"), &["policy-applied", "attached", "addresses-changed"]);
    run("detach --all", &["detached", "addresses-changed"]);
    assert_eq!(others(&monitor), [""; 0], "and nothing else");
}

#[test]
fn what_is_put_in_force_again_and_changes_nothing_is_no_event() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let file = folder.file("serve.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{LIMITED}"));
    let mut serve = Watch::start(&mut ctl::command(host, &format!("-j serve -f {file}")));
    serve.wait_for("\"policy-applied\"", LIMIT);
    serve.signal(Signal::SIGHUP);
    serve.wait_for("changes nothing of the policy", LIMIT);
    let applied = ctl::run(host, &format!("apply -f {file}")).expect_success();
    assert_eq!(applied, "no change\n");
    for (command, event) in [
        ("limit set errors 700/s", "policy-applied"),
        ("limit set errors 700/s", ""),
        // That it may not stay is one, and so is that it stays.
        (&format!("apply -f {file} --confirm 1h"), "policy-applied"),
        (&format!("apply -f {file} --confirm 1h"), ""),
        (&format!("apply -f {file}"), "policy-applied"),
    ] {
        let _said = ctl::run(host, command).expect_success();
        if !event.is_empty() {
            let line = serve.wait_for("\"event\":\"policy-", LIMIT);
            assert!(line.contains(event) && line.contains(command), "{command}: {line}");
        }
    }
    end(&pair, serve);
}

#[test]
fn a_monitor_ends_with_a_signal_or_with_its_reader_and_there_is_one_at_a_time() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let _attached = Attached::new(host, HOST_IF);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        assert_eq!(monitor(host, "").end_by(signal), Some(0), "{signal}");
    }
    let mut first = monitor(host, "");
    let refused = ctl::run(host, "monitor");
    let who = format!("process {} tells of events already", first.id());
    assert!(refused.code == Some(1) && refused.stderr.contains(&who), "{refused}");
    // One that was ended has given up its place, be it a monitor or `serve`.
    assert_eq!(first.end_by(Signal::SIGTERM), Some(0));
    for _ in 0..2 {
        let mut serve = Watch::start(&mut ctl::command(host, "serve"));
        let said = serve.wait_for("serving metrics", LIMIT);
        assert!(!said.contains("tells of events already"), "{said}");
        assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
        let said = serve.heard().concat();
        assert!(!said.contains("tells of events already"), "{said}");
    }
    let mut first = monitor(host, "");
    // A capture is another's.
    let file = Folder::new();
    let capture = format!("capture -w {} --time 10ms", file.path().join("a").display());
    let _said = ctl::run(host, &capture).expect_success();
    assert_eq!(first.end_by(Signal::SIGTERM), Some(0));
    let script = "(\"$0\" monitor; echo \"ended with $?\" >&2) | true";
    let mut unread = host.watch("bash", &["-c", script, ctl::program().to_str().expect("UTF-8")]);
    let _said = unread.wait_for("ended with 0", LIMIT);
}

/// Has `serve` read this of whom it tells of events, when it starts or when it reads its configuration again.
fn configure(folder: &Folder, events: &str) -> String {
    folder.file("serve.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{LIMITED}\n[events]\n{events}\n"))
}

/// A `serve` that has started, with `-j`, whatever it posts events to.
fn serve(pair: &Pair, folder: &Folder, events: &str) -> Watch {
    let config = configure(folder, events);
    let mut serve = Watch::start(&mut ctl::command(&pair.host, &format!("serve -j -f {config}")));
    let _said = serve.wait_for("serving metrics", LIMIT);
    serve
}

/// Ends it, and takes the program off.
fn end(pair: &Pair, mut serve: Watch) {
    assert_eq!(serve.end_by(Signal::SIGTERM), Some(0));
    let _said = ctl::run(&pair.host, "detach --all").expect_success();
}

/// The path that a request posts to, and the event; `None` where who has connected has gone again.
fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut text = String::new();
    let mut bytes = [0; 4096];
    loop {
        let read @ 1.. = stream.read(&mut bytes).expect("a request") else { return None };
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(event) = serde_json::from_str(body)
        {
            let path = head.strip_prefix("POST ").and_then(|head| head.split_once(" HTTP/1.1\r\n"));
            let Some((path, head)) = path else { panic!("{head}") };
            assert!(head.contains("application/json"), "{head}");
            return Some((path.to_owned(), event));
        }
    }
}

/// The next request that is made to a listener, which is answered by this status.
fn posted(listener: &TcpListener, status: &str) -> (String, Value) {
    loop {
        let (mut stream, _) = listener.accept().expect("a connection");
        if let Some(posted) = request(&mut stream) {
            // Who has waited for too long is gone.
            let _gone = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            return posted;
        }
    }
}

#[test]
fn serve_says_events_with_their_fields_posts_them_and_again_where_that_fails() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    let listener = pair.host.enter(|| TcpListener::bind("127.0.0.1:8081").expect("a port"));
    let mut serve = serve(&pair, &folder, "webhook = \"http://127.0.0.1:8081/events\"");
    let failed = posted(&listener, "503 Not Now");
    let again = posted(&listener, "200 OK");
    assert!(failed == again && again.0 == "/events" && again.1["schema"] == 1, "{failed:?} {again:?}");
    let flood = Flood::start(&pair, |_| Ipv4Addr::new(198, 51, 100, 9));
    let said = said(&mut serve, "flood-started");
    for (field, value) in [
        ("what", "event"),
        ("source", "198.51.100.9"),
        ("type", "echo-request"),
        ("interface", HOST_IF),
        ("reason", "limited-source"),
    ] {
        assert_eq!(said[field], value, "{said}");
    }
    assert!(said["packets_per_second"].as_u64().is_some_and(|rate| rate >= 100), "{said}");
    let event = loop {
        let (_, event) = posted(&listener, "204 No Content");
        if event["event"] == "flood-started" {
            break event;
        }
    };
    assert_eq!(event["packets_per_second"], said["packets_per_second"]);
    drop(flood);
    end(&pair, serve);
}

#[test]
fn a_page_that_never_answers_and_one_that_is_not_there_hold_up_nobody() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    // It is connected to, and nothing is read.
    let _silent = pair.host.enter(|| TcpListener::bind("127.0.0.1:8082").expect("a port"));
    for (port, why) in [(8082, "it took longer than 5 s"), (8083, "refused")] {
        let mut serve = serve(&pair, &folder, &format!("webhook = \"http://127.0.0.1:{port}/\""));
        // Before that, an address that comes is told together with those that there are.
        let _first = serve.wait_for("answered: +192.0.2.2 ", LIMIT);
        for address in ["192.0.2.101", "192.0.2.102"] {
            pair.host.ip(&format!("address add {address}/24 dev {HOST_IF}"));
            let _event = serve.wait_for(&format!("answered: +{address}"), LIMIT);
            pair.host.ip(&format!("address del {address}/24 dev {HOST_IF}"));
            let _event = serve.wait_for(&format!("answered: -{address}"), LIMIT);
        }
        let failure = serve.wait_for("posting events to", LIMIT);
        assert!(failure.contains(why) && failure.contains("after 3 trials"), "{failure}");
        end(&pair, serve);
    }
}

#[test]
fn a_command_is_run_for_each_event_and_may_do_what_serve_may() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    let file = folder.path().join("written");
    for (script, said) in [
        ("echo \\\"$0\\\" >&2; exit 1".to_owned(), "\\\"event\\\":\\\""),
        (format!("echo x > {}", file.display()), "Permission denied"),
    ] {
        let mut serve = serve(&pair, &folder, &format!("command = [\"sh\", \"-c\", \"{script}\"]"));
        let failure = serve.wait_for("running sh", LIMIT);
        assert!(failure.contains(said) && failure.contains("given up"), "{failure}");
        end(&pair, serve);
    }
    assert!(!file.exists());
}

#[test]
fn whom_events_are_told_is_changed_by_a_reload() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    let listener = pair.host.enter(|| TcpListener::bind("127.0.0.1:8084").expect("a port"));
    let webhook = |path: &str| format!("webhook = \"http://127.0.0.1:8084{path}\"");
    let mut serve = serve(&pair, &folder, &webhook("/before"));
    assert_eq!(posted(&listener, "200 OK").0, "/before");
    let reload = |serve: &mut Watch, events: &str| {
        let _file = configure(&folder, events);
        serve.signal(Signal::SIGHUP);
        let _said = serve.wait_for("the configuration was read again", LIMIT);
    };
    reload(&mut serve, &webhook("/after"));
    let change = "limit set errors 700/s";
    let _said = ctl::run(&pair.host, change).expect_success();
    // What was told before may come first.
    let path = loop {
        let (path, event) = posted(&listener, "200 OK");
        if event["command"] == change {
            break path;
        }
    };
    assert_eq!(path, "/after");
    let script = "command = [\"sh\", \"-c\", \"case \\\"$0\\\" in *800/s*) echo told >&2; exit 1; esac\"]";
    reload(&mut serve, script);
    let change = "limit set errors 800/s";
    let _said = ctl::run(&pair.host, change).expect_success();
    let failure = serve.wait_for("running sh", LIMIT);
    assert!(failure.contains("told; given up for policy-applied"), "{failure}");
    listener.set_nonblocking(true).expect("a socket");
    while let Ok((mut stream, _)) = listener.accept() {
        let posted = request(&mut stream);
        assert!(posted.is_none_or(|(_, event)| event["command"] != change), "the page is told no more");
    }
    // What waits is told to nobody where nobody is configured any more.
    reload(&mut serve, "");
    let _said = ctl::run(&pair.host, "limit set errors 900/s").expect_success();
    let _said = serve.wait_for("limit set errors 900/s", LIMIT);
    end(&pair, serve);
}

#[test]
fn a_vip_that_becomes_healthy_and_unhealthy_is_told_each_time() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    let sign = folder.path().join("healthy");
    let check = format!("file:{}", sign.display());
    let vip = format!(
        "[[responder.vip]]\nprefix = \"198.51.100.7/32\"\ncheck = \"{check}\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n"
    );
    let mut serve = serve(&pair, &folder, &format!("\n{vip}"));
    for _ in 0..2 {
        fs::write(&sign, "").expect("written");
        let healthy = said(&mut serve, "vip-healthy");
        assert_eq!((&healthy["vip"], &healthy["check"]), (&"198.51.100.7/32".into(), &check.clone().into()));
        fs::remove_file(&sign).expect("it is there");
        let unhealthy = said(&mut serve, "vip-unhealthy");
        assert_eq!(unhealthy["vip"], healthy["vip"]);
    }
    end(&pair, serve);
}

/// Both within a look: where there is one between, what another program does is told as `detached`, because ours is off then.
#[test]
fn another_program_behind_ours_and_none_are_told() {
    let Some(pair) = pair() else { return };
    let host = &pair.host;
    let (first, second) = (Counting::new(Kind::USUAL), Counting::new(Kind::USUAL));
    host.ip(&format!("link set dev {HOST_IF} xdpdrv pinned {}", first.pin()));
    let _said = ctl::run(host, &format!("attach {HOST_IF} --chain")).expect_success();
    let mut monitor = monitor(host, "-j");
    let mut changed = |commands: [&str; 2]| {
        monitor.signal(Signal::SIGSTOP);
        host.ip(commands[0]);
        let _said = ctl::run(host, commands[1]).expect_success();
        monitor.signal(Signal::SIGCONT);
        let event = next(&mut monitor, "chain-changed");
        assert_eq!((&event["interface"], &event["mode"]), (&HOST_IF.into(), &"native".into()), "{event}");
        event["behind"].clone()
    };
    let attach = format!("attach {HOST_IF}");
    let replaced = format!("-force link set dev {HOST_IF} xdpdrv pinned {}", second.pin());
    let behind = changed([&replaced, &attach]);
    let said = format!("in front of {} (program ", Counting::NAME);
    assert!(behind.as_str().is_some_and(|behind| behind.starts_with(&said)), "{behind}");
    assert!(changed([&format!("link set dev {HOST_IF} xdpdrv off"), &attach]).is_null());
    assert_eq!(others(&monitor), [""; 0], "and nothing else");
    let _said = ctl::run(host, "detach --all").expect_success();
}

#[test]
fn a_command_that_runs_when_serve_is_ended_ends_with_it_and_what_it_has_started() {
    let Some(pair) = pair() else { return };
    let folder = Folder::new();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRUSR).expect("a FIFO");
    let script = format!("cat {} & wait", fifo.display());
    let serve = serve(&pair, &folder, &format!("command = [\"sh\", \"-c\", \"{script}\"]"));
    let (opened, open) = mpsc::channel();
    // It is opened once somebody reads it.
    thread::spawn(move || opened.send(File::options().write(true).open(fifo)));
    let held = open.recv_timeout(LIMIT).expect("the command runs").expect("opened");
    end(&pair, serve);
    let mut asked = [PollFd::new(held.as_fd(), PollFlags::empty())];
    let told = poll(&mut asked, PollTimeout::from(10_000_u16)).expect("it can be waited for");
    assert!(
        told == 1 && asked[0].revents() == Some(PollFlags::POLLERR),
        "somebody reads it still: {asked:?}"
    );
}

#[test]
fn who_may_not_open_maps_and_whoever_comes_while_serve_watches_has_events_from_serve() {
    let Some(pair) = pair() else { return };
    let (host, folder) = (&pair.host, Folder::new());
    let config = folder.file("serve.toml", &format!("interfaces = [\"{HOST_IF}\"]\n{LIMITED}"));
    let readers = Readers::start(host, &config, "");
    let mut member = readers.command(GROUP, "monitor -j");
    let mut root = host.command("nsenter");
    root.arg(format!("--mount=/proc/{}/ns/mnt", readers.serve.id())).args([PROGRAM, "monitor", "-j"]);
    for (command, change) in [(&mut member, "limit set errors 700/s"), (&mut root, "limit set errors 800/s")]
    {
        // It is asked again until `serve` has begun to watch.
        let mut monitor = Watch::start(command);
        let _said = monitor.wait_for("telling of events", LIMIT);
        let _said = ctl::run(host, change).expect_success();
        // What `serve` has put in force at its start may come first.
        while next(&mut monitor, "policy-applied")["command"] != change {}
        assert_eq!(monitor.end_by(Signal::SIGTERM), Some(0));
    }
    // The socket cannot be seen from here.
    let refused = ctl::run(host, "monitor");
    assert!(refused.code == Some(1) && refused.stderr.contains("tells of events already"), "{refused}");
    let Readers { serve, .. } = readers;
    end(&pair, serve);
}

fn pair() -> Option<Pair> {
    can_run(&[]).then(|| Pair::new(1500))
}
