//! The binary as a shell sees it: exit codes, and what goes to which stream.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use seaworthy::config::DEFAULT_TOML;

/// `seaworthy` in `dir`, with an environment of its own.
fn seaworthy(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seaworthy"));
    command.current_dir(dir).args(args).env_clear().stdin(Stdio::null());
    command
}

fn ran(dir: &Path, args: &[&str]) -> Output {
    seaworthy(dir, args).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is text")
}

#[test]
fn every_end_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), "[lgo]\n").unwrap();
    let cases: [(&[&str], i32); 29] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["config", "show", "--help"], 0),
        (&["config", "check"], 0),
        (&["config", "show", "--json"], 0),
        (&["protections"], 0),
        (&["completions", "bash"], 0),
        (&["vocabulary", "parse", "stages", "Series A"], 0),
        (&["vocabulary", "parse", "stages", "{\"a\": 1}", "--json"], 0),
        (&[], 64),
        (&["serv"], 64),
        (&["serve", "--port", "1"], 64),
        (&["requests", "--status", "9xx"], 64),
        (&["vocabulary", "parse", "stagse", "seed"], 64),
        (&["vocabulary", "parse", "stages", "{}", "--key", "weight"], 64),
        (&["vocabulary", "parse", "stages", "{\"a\""], 65),
        (&["vocabulary", "parse", "stages", "seed", "--config", "bad.toml"], 78),
        (&["schema", "learn"], 64),
        (&["schema", "learn", "--from", "requests", "--data", "nowhere"], 2),
        (&["requests", "--data", "nowhere"], 69),
        (&["mode", "set", "csrf", "warn"], 64),
        (&["rollout", "hold", "csrf", "--until", "soon", "--reason", "r"], 64),
        (&["rollout", "history", "--data", "nowhere"], 69),
        (&["requests", "--data", "nowhere", "--explain", "abc"], 69),
        (&["mode", "--config", "bad.toml"], 78),
        (&["config", "check", "bad.toml"], 78),
        (&["config", "check", "absent.toml", "--json"], 78),
        (&["serve"], 78),
        (&["serve", "--upstream", "http://127.0.0.1:1", "--console", "0.0.0.0:9900"], 78),
    ];
    for (args, code) in cases {
        let output = ran(dir.path(), args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        if code == 0 {
            assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
        } else if args.contains(&"--json") {
            assert!(output.stderr.is_empty(), "{args:?}");
        } else {
            assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
        }
        if code > 64 && !args.contains(&"--json") {
            let first = text(&output.stderr).lines().next().unwrap_or_default();
            assert!(first.starts_with("seaworthy: "), "{args:?}: {first}");
        }
    }
}

#[test]
fn faults_are_printed_one_a_line_below_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("seaworthy.toml"), "[log]\nlevl = \"info\"\n[lgo]\n").unwrap();
    let output = ran(dir.path(), &["serve", "--upstream", "http://127.0.0.1:1"]);
    assert_eq!(
        text(&output.stderr),
        "seaworthy: the config has 2 faults\n\
         seaworthy.toml:2:1  log.levl  unknown key; did you mean `level`?\n\
         seaworthy.toml:3:2  lgo       unknown key; did you mean `log`?\n"
    );
}

#[test]
fn init_writes_the_default_that_check_finds_right() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ran(dir.path(), &["init"]).status.code(), Some(0));
    let written = std::fs::read_to_string(dir.path().join("seaworthy.toml")).unwrap();
    assert_eq!(written, DEFAULT_TOML);
    let again = ran(dir.path(), &["init"]);
    assert_eq!(again.status.code(), Some(64));
    assert_eq!(
        text(&again.stderr),
        "seaworthy: seaworthy.toml is there already\n\
         choose another name, or replace it with --force\n"
    );
    let check = ran(dir.path(), &["config", "check"]);
    assert!(text(&check.stdout).starts_with("seaworthy.toml is right: "), "{check:?}");
}

#[test]
fn the_environment_counts_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let show = seaworthy(dir.path(), &["config", "show", "--changed"])
        .env("SEAWORTHY__SERVICE__UPSTREAM", "http://a:1,http://b:2")
        .env("COLUMNS", "40")
        .output()
        .unwrap();
    assert_eq!(
        text(&show.stdout),
        "key                from                          value\n\
         service.upstreams  SEAWORTHY__SERVICE__UPSTREAM  [\"http://a:1\", \"http://b:2\"]\n",
        "a pipe gets whole lines without colour"
    );
    let check = seaworthy(dir.path(), &["config", "check"])
        .env("SEAWORTHY__LISTEN__WORKERS", "many")
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(78));
    assert!(text(&check.stderr).contains("\nSEAWORTHY__LISTEN__WORKERS  listen.workers  "));
}

#[test]
fn a_field_comes_by_standard_input_too_and_no_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let of_field = |field: &[u8]| {
        std::fs::write(dir.path().join("field"), field).unwrap();
        let stdin = std::fs::File::open(dir.path().join("field")).unwrap();
        let mut command = seaworthy(dir.path(), &["vocabulary", "parse", "stages", "-"]);
        command.stdin(stdin).output().unwrap()
    };
    for (field, code, said) in [
        (&b"Series A\n"[..], 0, "normalized  \"series-a\"\n"),
        (b"[\"seed\", \"angel\"]", 1, "normalized  [\"seed\"]\n"),
        (b"\xff", 65, ""),
        (&[b'a'; (1 << 20) + 1], 65, ""),
    ] {
        let output = of_field(field);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with(said));
        assert_eq!(output.stderr.is_empty(), code < 64);
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = seaworthy(dir.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}
