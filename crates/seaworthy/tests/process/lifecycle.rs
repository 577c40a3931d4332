//! How the process starts, fails to start, reloads and ends.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::harness::ask::{body, get, metric, until};
use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::{Gateway, Process, seaworthy, serve};

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A service that answers every request at once.
pub(crate) async fn service() -> SocketAddr {
    static OPEN: Semaphore = Semaphore::const_new(Semaphore::MAX_PERMITS);
    service_behind(&OPEN).await
}

/// A service that needs a permit of `gate` for each answer.
async fn service_behind(gate: &'static Semaphore) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, gate));
        }
    });
    addr
}

async fn answer(mut stream: TcpStream, gate: &Semaphore) {
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        read.clear();
        gate.acquire().await.expect("it is never closed").forget();
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("the gateway listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.expect("it reads");
    stream
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_and_exits_0() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let dir = folder();
    let mut gateway = Gateway::start(serve(dir.path(), service_behind(&GATE).await)).await;
    let mut client = connect(gateway.traffic).await;
    until("the request is under way", async || {
        metric(gateway.console, "http_server_active_requests").await.filter(|count| *count == 1.0)
    })
    .await;
    gateway.process.signal("TERM");
    gateway.process.says("draining").await;
    until("it is not ready", async || {
        (get(gateway.console, "/readyz", &[]).await.statuses() == [503]).then_some(())
    })
    .await;
    GATE.add_permits(1);
    assert_eq!(read_replies(&mut client, 0).await.statuses(), [200]);
    assert_eq!(gateway.process.ended().await.0, Some(0));

    // The last evidence was written, and needs no gateway to be read.
    let rows = seaworthy(dir.path(), &["requests", "--json"]).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&rows.stdout).expect("it is JSON");
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(1), "{rows}");
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let dir = folder();
    std::fs::write(dir.path().join("seaworthy.toml"), "[listen]\ndrain_timeout = \"1h\"").unwrap();
    let mut gateway = Gateway::start(serve(dir.path(), service_behind(&GATE).await)).await;
    let _client = connect(gateway.traffic).await;
    until("the request is under way", async || {
        metric(gateway.console, "http_server_active_requests").await.filter(|count| *count == 1.0)
    })
    .await;
    gateway.process.signal("TERM");
    gateway.process.says("draining").await;
    gateway.process.signal("TERM");
    let (code, said) = gateway.process.ended().await;
    assert_eq!(code, Some(0), "{said:?}");
}

/// Replaces the config in one step and leaves its size and time of change as they were, so that
/// only a signal tells of it.
fn replace_unseen(dir: &Path, toml: &str) {
    let (file, fresh) = (dir.join("seaworthy.toml"), dir.join("fresh.toml"));
    let before = std::fs::metadata(&file).unwrap();
    assert_eq!(before.len(), toml.len() as u64, "the size tells of it");
    std::fs::write(&fresh, toml).unwrap();
    let opened = File::options().write(true).open(&fresh).unwrap();
    opened.set_modified(before.modified().unwrap()).unwrap();
    std::fs::rename(&fresh, &file).unwrap();
}

#[tokio::test]
async fn sighup_takes_up_a_right_file_and_leaves_a_bad_one() {
    let config = |mode: &str, host: &str| {
        format!("[protect.host_allowlist]\nmode = \"{mode}\"\nhosts = [\"{host}.example\"]\n")
    };
    let dir = folder();
    std::fs::write(dir.path().join("seaworthy.toml"), config("enforce", "a")).unwrap();
    let mut gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (traffic, console) = (gateway.traffic, gateway.console);
    let statuses = async || {
        let mut statuses = Vec::new();
        for host in ["a", "b"] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}.example\r\n\r\n");
            let reply = crate::harness::client::exchange(traffic, request.as_bytes(), 1).await;
            statuses.extend(reply.statuses());
        }
        statuses
    };
    let failed = async || metric(console, "seaworthy_config_reload_failed").await;
    assert_eq!((statuses().await, failed().await), (vec![200, 421], Some(0.0)));

    replace_unseen(dir.path(), &config("enforce", "b"));
    gateway.process.signal("HUP");
    gateway.process.says("the config was put in force").await;
    assert_eq!((statuses().await, failed().await), (vec![421, 200], Some(0.0)));

    replace_unseen(dir.path(), &config("enforse", "a"));
    gateway.process.signal("HUP");
    let fault = gateway.process.says("the config was not put in force").await;
    let words = fault["message"].as_str().unwrap();
    assert!(words.contains("seaworthy.toml:2:8  protect.host_allowlist.mode  "), "{words}");
    assert_eq!((statuses().await, failed().await), (vec![421, 200], Some(1.0)));
    let page = get(console, "/", &[]).await.text;
    assert!(page.contains("protect.host_allowlist.mode"), "the console says so: {page}");

    gateway.process.signal("TERM");
    assert_eq!(gateway.process.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_reload_says_what_only_a_restart_changes() {
    let dir = folder();
    std::fs::write(dir.path().join("seaworthy.toml"), "[listen]\nworkers = 1\n").unwrap();
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    replace_unseen(dir.path(), "[listen]\nworkers = 2\n");
    gateway.process.signal("HUP");
    let warning = gateway.process.says("these change with a restart").await;
    assert_eq!(warning["keys"], "listen.workers");
    gateway.process.says("the config was put in force").await;
    assert_eq!(get(gateway.traffic, "/", &[]).await.statuses(), [200]);
}

#[tokio::test]
async fn the_log_has_the_cause_by_the_id_that_the_client_was_told() {
    let dir = folder();
    let config = "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"a.example\"]\n";
    std::fs::write(dir.path().join("seaworthy.toml"), config).unwrap();
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    for (path, message, code) in [
        ("/a%00?secret=1", "request failed", "malformed-target"),
        ("/path?secret=1", "denied", "host-not-allowed"),
    ] {
        let reply = get(gateway.traffic, path, &[]).await;
        let problem: serde_json::Value = serde_json::from_str(&body(&reply)).unwrap();
        assert_eq!(problem["code"], code);
        let line = gateway.process.says(message).await;
        assert_eq!((&line["code"], &line["request"]), (&problem["code"], &problem["request_id"]));
        assert!(!line.to_string().contains("secret"), "queries are never kept: {line}");
    }
}

/// A start that fails: what is wrong, and what the one line says.
struct Fault {
    name: &'static str,
    args: Vec<String>,
    env: &'static [(&'static str, &'static str)],
    /// What is wrong, and what to do.
    words: Vec<String>,
}

#[tokio::test]
async fn a_start_that_fails_says_in_one_line_why_and_what_to_do() {
    let dir = folder();
    let service = service().await;
    std::fs::write(dir.path().join("plain"), "a file").unwrap();
    std::fs::create_dir(dir.path().join("damaged")).unwrap();
    std::fs::write(dir.path().join("damaged/telemetry.db"), "no database ".repeat(50)).unwrap();
    std::fs::create_dir(dir.path().join("keyed")).unwrap();
    std::fs::write(dir.path().join("keyed/install.key"), "no key").unwrap();
    let first = Gateway::start(serve(dir.path(), service)).await;
    let (traffic, console) = (first.traffic.to_string(), first.console.to_string());

    let fault = |name, args: &[&str], env, words: &[&str]| Fault {
        name,
        args: args.iter().map(ToString::to_string).collect(),
        env,
        words: words.iter().map(ToString::to_string).collect(),
    };
    let in_use = format!("in use by another gateway (process {})", first.process.id());
    let cases = [
        fault(
            "a data folder that cannot be",
            &["--data", "plain"],
            &[],
            &["plain cannot be written", "--data or `[store] dir`"],
        ),
        fault(
            "a data folder in use",
            &[],
            &[],
            &["seaworthy-data", &in_use, "stop that one", "--data or `[store] dir`"],
        ),
        fault(
            "a damaged database",
            &["--data", "damaged"],
            &[],
            &["damaged/telemetry.db is damaged", "move it away"],
        ),
        fault(
            "a damaged key",
            &["--data", "keyed"],
            &[],
            &["keyed/install.key does not hold 64 hex digits", "restore it, or remove it"],
        ),
        fault(
            "a key that is none",
            &["--data", "other"],
            &[("SEAWORTHY_KEY", "secret")],
            &["SEAWORTHY_KEY is not 64 hex digits", "openssl rand -hex 32"],
        ),
        fault(
            "a port in use",
            &["--data", "other", "--listen", &traffic],
            &[],
            &[&traffic, "is in use", "choose another `listen.addr`"],
        ),
        fault(
            "an address of another machine",
            &["--data", "other", "--listen", "192.0.2.1:8080"],
            &[],
            &["192.0.2.1:8080 cannot be listened on", "choose another `listen.addr`"],
        ),
        fault(
            "a console port in use",
            &["--data", "other", "--console", &console],
            &[],
            &[&console, "is in use", "choose another address for the console"],
        ),
    ];
    for Fault { name, args, env, words } in cases {
        let mut arguments = vec!["serve".to_owned(), format!("--upstream=http://{service}")];
        arguments.extend(args.iter().cloned());
        for (flag, addr) in [("--listen", "127.0.0.1:0"), ("--console", "127.0.0.1:0")] {
            if !args.iter().any(|arg| arg == flag) {
                arguments.extend([flag.to_owned(), addr.to_owned()]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = seaworthy(dir.path(), &arguments);
        command.envs(env.iter().copied());
        let (exit, said) = Process::spawn(command).ended().await;
        assert_eq!(exit, Some(69), "{name}: {said:?}");
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].starts_with("seaworthy: failed to "), "{name}: {said:?}");
        for words in words {
            assert!(said[0].contains(&words), "{name}: {words:?} is not in {said:?}");
        }
    }
    assert_eq!(get(first.traffic, "/", &[]).await.statuses(), [200], "the first one goes on");
}

#[tokio::test]
async fn a_public_console_is_refused_with_a_line_that_says_why() {
    let dir = folder();
    let mut command = serve(dir.path(), service().await);
    command.env("SEAWORTHY__CONSOLE__ADDR", "0.0.0.0:9900");
    // Flags win over variables.
    Gateway::start(command).await;
    let upstream = ["serve", "--upstream", "http://127.0.0.1:1", "--console", "0.0.0.0:9900"];
    let (code, said) = Process::spawn(seaworthy(dir.path(), &upstream)).ended().await;
    assert_eq!((code, said.len()), (Some(78), 2), "{said:?}");
    assert!(
        said[1].starts_with("--console  console.addr  the console has no login yet"),
        "{said:?}"
    );
    assert!(said[1].contains("ssh -L 9900:127.0.0.1:9900"), "{said:?}");
}

/// The same command, for whose process a write past the bound of [`bound_files`] fails, as on a full
/// disk, and does not end it.
pub(crate) fn outlives_full_disks(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().expect("it is started in a folder"));
    shell
}

/// Bounds how long a file of the process `id` may become: writes past it fail.
pub(crate) fn bound_files(id: u32, bytes: &str) {
    let id = id.to_string();
    let bounded =
        Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")]).status();
    assert!(bounded.expect("util-linux has prlimit").success());
}

#[tokio::test]
async fn traffic_goes_on_while_the_store_cannot_write() {
    let dir = folder();
    let command = serve(dir.path(), service().await);
    let mut gateway = Gateway::start(outlives_full_disks(&command)).await;
    let (traffic, console, id) = (gateway.traffic, gateway.console, gateway.process.id());
    assert_eq!(get(console, "/readyz", &[]).await.statuses(), [200]);

    bound_files(id, "0");
    let mut sent = 0;
    until("/readyz says that the store fails", async || {
        assert_eq!(get(traffic, "/", &[]).await.statuses(), [200]);
        sent += 1;
        let reply = get(console, "/readyz", &[]).await;
        (reply.statuses() == [503] && reply.text.contains("FAIL  store: ")).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(get(traffic, "/", &[]).await.statuses(), [200], "nothing waits for the store");
        sent += 1;
    }
    assert_eq!(metric(console, "seaworthy_store_writable").await, Some(0.0));
    assert!(metric(console, "seaworthy_store_write_failures_total").await >= Some(1.0));
    assert_eq!(get(console, "/healthz", &[]).await.statuses(), [200]);
    assert_eq!(get(console, "/", &[]).await.statuses(), [200]);

    // Once there is room again, what was held is written: nothing was lost.
    bound_files(id, "unlimited");
    until("the store is ready again", async || {
        (get(console, "/readyz", &[]).await.statuses() == [200]).then_some(())
    })
    .await;
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.ended().await.0, Some(0));
    let list = seaworthy(dir.path(), &["requests", "--json", "--limit", "1000"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("it is JSON");
    let weights = list["rows"].as_array().expect("rows").iter();
    let count: f64 = weights.map(|row| row["weight"].as_f64().expect("a number")).sum();
    assert_eq!(count.round(), f64::from(sent), "{list}");
}

#[tokio::test]
async fn a_client_that_only_connects_does_not_hold_the_end_up() {
    let dir = folder();
    std::fs::write(dir.path().join("seaworthy.toml"), "[listen]\ndrain_timeout = \"1h\"").unwrap();
    let mut gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let _unused = TcpStream::connect(gateway.traffic).await.unwrap();
    gateway.process.signal("TERM");
    let ended = timeout(PATIENCE, gateway.process.ended()).await;
    assert_eq!(ended.expect("within the hour").0, Some(0));
}
