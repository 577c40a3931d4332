//! The config as a specification: what is right, what is a fault, and which layer wins.

use std::collections::BTreeSet;

use seaworthy_policy::alert::Intake;
use seaworthy_policy::consumer::{ConsumerKind, classify};
use seaworthy_policy::mode::ModeSetting;
use seaworthy_policy::quantity::{ByteSize, Period};
use seaworthy_policy::registry::{REGISTRY, position};
use serde_json::Value;

use super::*;

/// A folder with one config file in it.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn with(toml: &str) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        folder.write(FILE_NAME, toml);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn inputs(&self) -> Inputs {
        Inputs { file: Some(self.dir.path().join(FILE_NAME)), ..Inputs::default() }
    }

    /// The faults as they are printed, without the folder and with single spaces.
    fn faults(&self, inputs: &Inputs) -> Vec<String> {
        let prefix = format!("{}/", self.dir.path().display());
        let faults =
            inspect(inputs).expect_err("there is a fault").to_string().replace(&prefix, "");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        faults.lines().map(words).collect()
    }
}

fn faults_of(toml: &str) -> Vec<String> {
    let folder = Folder::with(toml);
    folder.faults(&folder.inputs())
}

fn config_of(toml: &str) -> Config {
    inspect(&Folder::with(toml).inputs()).unwrap_or_else(|faults| panic!("{faults}"))
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_fault_is_in_one_report_in_the_order_of_the_file() {
    let faults = faults_of(
        r#"[servic]
name = "x"

[service]
upstreams = ["http://a:1", "ftp://b", "http://a:1"]
protocol = "htpp1"
connect_timeout = 5
health = { path = "healthz", intervall = "1s" }

[listen]
addr = "localhost"
workers = -1
tls = { cert = "no.pem" }

[console]
addr = "0.0.0.0:9900"

[store.telemetry]
rows_per_second = 3

[client]
tenant = { header = "x tenant" }
trusted_proxies = ["10.0.0.0/8", "everyone"]

[protect.rate_limit]
mode = "enforce 200%"
limts = []
limits = [{ per = "client", rate = "100/min", burst = 0 }, { per = "clinet", rate = "1/s" }]

[protect.corss]
mode = "auto"

[protect.csrf]
token_cookie = "session"

[[route]]
match = "post /a"

[[route]]
match = "/a"
body_limit = "1XB"

[[route]]
match = "/a"
[route.protect.header_limit]
bytes_max = "1B"

[learn]
sample = "2000/s"

[log]
level = "inof"
"#,
    );
    let want = [
        "seaworthy.toml:1:2 servic unknown key; did you mean `service`?",
        "seaworthy.toml:5:28 service.upstreams[1] expected a URL such as \"http://127.0.0.1:3000\", \
         not \"ftp://b\": the scheme is http or https",
        "seaworthy.toml:5:13 service.upstreams http://a:1 is there twice",
        "seaworthy.toml:6:12 service.protocol expected \"auto\", \"http1\" or \"http2\", not \
         \"htpp1\"; did you mean `http1`?",
        "seaworthy.toml:7:19 service.connect_timeout expected a string, not 5",
        "seaworthy.toml:8:19 service.health.path expected a path such as \"/healthz\", not \
         \"healthz\"",
        "seaworthy.toml:8:30 service.health.intervall unknown key; did you mean `interval`?",
        "seaworthy.toml:11:8 listen.addr expected an address and a port such as \
         \"127.0.0.1:8080\" or \"[::]:8080\", not \"localhost\"",
        "seaworthy.toml:12:11 listen.workers expected a whole number from 0, not -1",
        "seaworthy.toml:13:7 listen.tls `key` is missing",
        "seaworthy.toml:16:8 console.addr the console has no login yet, so it stays on loopback: \
         use \"127.0.0.1:9900\" and reach it through a tunnel, such as `ssh -L \
         9900:127.0.0.1:9900 <host>`",
        "seaworthy.toml:19:19 store.telemetry.rows_per_second expected 4 to 10000, or 0 for none",
        "seaworthy.toml:22:21 client.tenant.header \"x tenant\" is not a header name",
        "seaworthy.toml:23:34 client.trusted_proxies[1] invalid IP address syntax: \"everyone\"",
        "seaworthy.toml:26:8 protect.rate_limit.mode expected \"auto\", \"off\", \"warn\", \
         \"enforce\" or a share such as \"enforce 10%\", not \"enforce 200%\"",
        "seaworthy.toml:27:1 protect.rate_limit.limts unknown key; did you mean `limits`?",
        "seaworthy.toml:28:10 protect.rate_limit.limits burst is at least 1: a burst of 0 lets \
         nothing in",
        "seaworthy.toml:28:68 protect.rate_limit.limits[1].per expected \"client\", \"tenant\", \
         \"route\" or \"ip\", not \"clinet\"; did you mean `client`?",
        "seaworthy.toml:30:10 protect.corss unknown key; did you mean `cors`?",
        "seaworthy.toml:34:16 protect.csrf.token_cookie is the session's cookie, which it would \
         overwrite",
        "seaworthy.toml:37:9 route[0].match expected \"METHOD /path\" or \"/path\", not \"post /a\"",
        "seaworthy.toml:41:14 route[1].body_limit expected a size such as \"64KiB\", \"1MiB\" or \
         \"2GB\", not \"1XB\"",
        "seaworthy.toml:44:9 route[2].match \"/a\" is there already, in line 40",
        "seaworthy.toml:46:13 route[2].protect.header_limit.bytes_max",
        "seaworthy.toml:49:10 learn.sample expected at most \"1000/s\", such as \"5/s\" or \
         \"100/min\"",
        "seaworthy.toml:52:9 log.level expected a level (off, error, warn, info, debug, trace) or \
         directives such as \"info,hyper=debug\", not \"inof\"; did you mean \"info\"?",
    ];
    let mut rest = faults.iter();
    for want in want {
        let found = rest.clone().any(|fault| fault.starts_with(want));
        assert!(found, "missing: {want}\nin:\n{}", faults.join("\n"));
    }
    assert_eq!(rest.by_ref().count(), want.len(), "{}", faults.join("\n"));
    let line = |fault: &String| fault.split(':').nth(1).unwrap().parse::<u32>().unwrap();
    assert!(faults.is_sorted_by_key(line), "{}", faults.join("\n"));
}

#[test]
fn what_follows_a_torn_line_is_not_guessed_at() {
    let faults = faults_of("[log]\nlevl = \"info\"\n[listen]\naddr = \"a\nworkrs = 1\n");
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("seaworthy.toml:2:1 log.levl unknown key"), "{faults:?}");
    assert!(faults[1].starts_with("seaworthy.toml:4:"), "{faults:?}");
    assert!(faults[1].contains("not TOML: "), "{faults:?}");

    let faults = faults_of("[log]\nlevel = \"info\"\nlevel = \"warn\"\n[listen]\nworkrs = 1\n");
    assert_eq!(
        faults,
        [
            "seaworthy.toml:3:1 the key is there twice",
            "seaworthy.toml:5:1 listen.workrs unknown key; did you mean `workers`?",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let folder = Folder::with("");
    let mut inputs = folder.inputs();
    std::fs::write(inputs.file.as_ref().unwrap(), [b'a', 0xff]).unwrap();
    assert_eq!(folder.faults(&inputs), ["seaworthy.toml is not UTF-8: byte 2 is not text"]);
    let huge = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    folder.write(FILE_NAME, &huge);
    assert!(folder.faults(&inputs)[0].contains("has more than 4 MiB"));
    inputs.file = Some(folder.dir.path().join("absent.toml"));
    assert_eq!(
        folder.faults(&inputs),
        ["absent.toml there is no such file; `seaworthy init` writes one with every default"]
    );
}

#[test]
fn upstreams_are_needed_to_serve_and_not_to_look() {
    let inputs = Inputs::default();
    assert!(inspect(&inputs).is_ok());
    let faults = load(&inputs).unwrap_err().to_string();
    assert!(faults.starts_with("(built-in config)  service.upstreams  expected"), "{faults}");
    assert!(faults.ends_with("or use --upstream"), "{faults}");
    let flags = Flags { upstreams: vec!["http://127.0.0.1:3000".to_owned()], ..Flags::default() };
    assert_eq!(load(&Inputs { flags, ..inputs }).unwrap().service.upstreams.len(), 1);

    let folder = Folder::with("[service]\nupstreams = [\"nonsense\"]\n");
    let faults = load(&folder.inputs()).unwrap_err();
    assert_eq!(faults.list().len(), 1, "a faulty upstream is not missing too: {faults}");
}

#[test]
fn a_higher_layer_wins() {
    let of = |file: &str, variables: &[(&str, &str)], flag: Option<&str>| {
        let folder = Folder::with(file);
        let flags = Flags { listen: flag.map(str::to_owned), ..Flags::default() };
        let config = inspect(&Inputs { env: env(variables), flags, ..folder.inputs() }).unwrap();
        (config.listen.addr.port(), config.origins.of("listen.addr"))
    };
    let file = "\n[listen]\naddr = \"127.0.0.1:1\"\n";
    let variable = [("SEAWORTHY__LISTEN__ADDR", "127.0.0.1:2")];
    let variable_origin = Origin::Env("SEAWORTHY__LISTEN__ADDR".into());
    let flag = Some("127.0.0.1:3");
    assert_eq!(of("", &[], None), (8080, Origin::Default));
    let (port, origin) = of(file, &[], None);
    assert_eq!(port, 1);
    assert!(matches!(origin, Origin::File { line: 3, .. }), "{origin:?}");
    assert_eq!(of("", &variable, None), (2, variable_origin.clone()));
    assert_eq!(of(file, &variable, None), (2, variable_origin));
    for (file, variable) in [("", &[][..]), (file, &[]), ("", &variable), (file, &variable)] {
        assert_eq!(of(file, variable, flag), (3, Origin::Flag("--listen")));
    }
}

#[test]
fn environment_variables_reach_every_key() {
    let read = |variables: &[(&str, &str)]| {
        inspect(&Inputs { env: env(variables), ..Inputs::default() })
            .unwrap_or_else(|faults| panic!("{faults}"))
    };
    let urls = |config: &Config| {
        config.service.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (name, value) in [
        ("SEAWORTHY__SERVICE__UPSTREAM", "http://a:1,http://b:2"),
        ("SEAWORTHY__SERVICE__UPSTREAMS", "http://a:1, http://b:2"),
        ("SEAWORTHY__SERVICE__UPSTREAMS", "[\"http://a:1\", \"http://b:2\"]"),
    ] {
        assert_eq!(urls(&read(&[(name, value)])), ["http://a:1", "http://b:2"], "{name}={value}");
    }
    let config = read(&[
        ("SEAWORTHY__SERVICE__NAME", "2024"),
        ("SEAWORTHY__SERVICE__HEALTH__PATH", "/up"),
        ("SEAWORTHY__LISTEN__WORKERS", "3"),
        ("SEAWORTHY__STORE__TELEMETRY__RETENTION", "3d"),
        ("SEAWORTHY__PROTECT__RATE_LIMIT__MODE", "enforce 10%"),
        ("SEAWORTHY__PROTECT__CORS__CREDENTIALS", "true"),
        ("SEAWORTHY__PROTECT__CORS__ORIGINS", "https://a.example,https://b.example"),
        ("SEAWORTHY__ROUTE", "[{ match = \"/x\", body_limit = \"1KiB\" }]"),
        ("SEAWORTHY_KEY", "not of the config"),
        ("SEAWORTHY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("HOME", "/root"),
    ]);
    assert_eq!(config.service.name, "2024");
    let health = config.service.health.unwrap();
    assert_eq!((health.path.as_str(), health.interval), ("/up", Period::secs(5)));
    assert_eq!(config.listen.workers, 3);
    assert_eq!(config.store.telemetry.retention, Period::secs(3 * 86_400));
    assert_eq!(config.protect.rate_limit.mode.to_string(), "enforce 10%");
    assert!(config.protect.cors.credentials);
    assert_eq!(config.protect.cors.origins.len(), 2);
    assert_eq!(config.routes[0].protect.body_limit.max, ByteSize::kib(1));
}

#[test]
fn a_bad_variable_is_named() {
    for (name, value, want) in [
        ("SEAWORTHY__LISTEN__WORKERS", "many", "listen.workers expected a whole number"),
        ("SEAWORTHY__LISTEN__WORKRS", "1", "listen.workrs unknown key; did you mean `workers`?"),
        ("SEAWORTHY__LISTN__WORKERS", "1", "listn unknown key; did you mean `listen`?"),
        ("SEAWORTHY__LISTEN____WORKERS", "1", "expected keys between double underscores"),
        ("SEAWORTHY__LOG__LEVEL__X", "1", "log.level expected a string, not a table"),
        ("SEAWORTHY__SERVICE__UPSTREAM", "a", "service.upstreams[0] expected a URL such as"),
        (
            "SEAWORTHY_LISTEN__WORKERS",
            "1",
            "sets nothing; did you mean `SEAWORTHY__LISTEN__WORKERS`?",
        ),
    ] {
        let inputs = Inputs { env: env(&[(name, value)]), ..Inputs::default() };
        let faults = inspect(&inputs).unwrap_err().to_string();
        let line = faults.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(line.starts_with(&format!("{name} {want}")), "{line}");
    }
    let folder = Folder::with("[[route]]\nmatch = \"/a\"\n");
    let variables = env(&[
        ("SEAWORTHY__ROUTE__0__MATCH", "/b"),
        ("SEAWORTHY__SERVICE__UPSTREAM", "http://a"),
        ("SEAWORTHY__SERVICE__UPSTREAMS", "http://a"),
    ]);
    let faults = folder.faults(&Inputs { env: variables, ..folder.inputs() });
    assert_eq!(
        faults,
        [
            "SEAWORTHY__ROUTE__0__MATCH route.0.match `route` is no table; set it whole",
            "SEAWORTHY__SERVICE__UPSTREAM service.upstreams SEAWORTHY__SERVICE__UPSTREAMS is set \
             too: keep one of the two",
        ]
    );
}

#[test]
fn every_key_refuses_what_it_is_not() {
    let mut known = BTreeSet::new();
    leaves("", &serde_json::to_value(Sections::default()).unwrap(), &mut known);
    assert!(known.len() > 60);
    for key in known {
        let key = key.trim_start_matches('.');
        let name = format!("SEAWORTHY__{}", key.to_ascii_uppercase().replace('.', "__"));
        let nonsense = env(&[(&name, "{ nonsense = 1 }")]);
        let faults = inspect(&Inputs { env: nonsense, ..Inputs::default() }).unwrap_err();
        let [fault] = faults.list() else { panic!("{key}: {faults}") };
        assert!(fault.key.starts_with(key), "{key}: {faults}");
        assert_eq!(fault.place, Place::Env(name.as_str().into()), "{key}: {faults}");
    }
}

#[test]
fn a_bad_flag_is_named() {
    let flags = Flags {
        upstreams: vec!["a".to_owned()],
        listen: Some("b".to_owned()),
        console: Some("192.0.2.1:1".to_owned()),
        data: Some(PathBuf::new()),
    };
    let faults = inspect(&Inputs { flags, ..Inputs::default() }).unwrap_err().to_string();
    let places: Vec<_> =
        faults.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(
        places,
        [
            ["--console", "console.addr"],
            ["--data", "store.dir"],
            ["--listen", "listen.addr"],
            ["--upstream", "service.upstreams[0]"],
        ]
    );
}

#[test]
fn a_route_overrides_key_by_key_what_it_mentions() {
    let config = config_of(
        r#"
[protect.rate_limit]
mode = "warn"
keys = 1000

[protect.cors]
credentials = true

[[route]]
match = "POST /api/traces"
body_limit = "1MiB"
[route.protect.rate_limit]
limits = [{ per = "client", rate = "20/min", burst = 20 }]
[route.protect.body_limit]
mode = "warn"

[[route]]
match = "/plain"
"#,
    );
    let [traces, plain] = &config.routes[..] else { panic!("two routes") };
    let named: Vec<_> = traces.overrides.iter().map(|at| REGISTRY[*at].name).collect();
    assert_eq!(named, ["rate_limit", "body_limit"]);
    let own = &traces.protect;
    assert_eq!((own.rate_limit.keys, own.rate_limit.limits.len()), (1000, 1));
    assert_eq!(own.rate_limit.mode, config.protect.rate_limit.mode);
    assert_eq!(own.body_limit.max, ByteSize::mib(1));
    assert_eq!(own.body_limit.mode.to_string(), "warn");
    assert_eq!(own.cors, config.protect.cors);
    assert_eq!((&plain.protect, plain.overrides.as_slice()), (&config.protect, &[][..]));
}

#[test]
fn a_fault_of_the_service_is_not_told_again_for_each_route() {
    let faults = faults_of(
        r#"
[protect.rate_limit]
kyes = 1
keys = 0
[[route]]
match = "/a"
[route.protect.rate_limit]
mode = "off"
[[route]]
match = "/b"
body_limit = "1KiB"
[route.protect]
body_limit = { max = "2KiB" }
rate_limit = { keys = 5, limts = [] }
[[route]]
match = "/c"
protect = 5
[[route]]
body_limit = "1KiB"
"#,
    );
    assert_eq!(
        faults,
        [
            "seaworthy.toml:3:1 protect.rate_limit.kyes unknown key; did you mean `keys`?",
            "seaworthy.toml:4:8 protect.rate_limit.keys expected 1 to 4194304",
            "seaworthy.toml:11:14 route[1].body_limit `protect.body_limit.max` says it too: keep \
             one of the two",
            "seaworthy.toml:14:26 route[1].protect.rate_limit.limts unknown key; did you mean \
             `limits`?",
            "seaworthy.toml:17:11 route[2].protect expected a table, such as \
             `[route.protect.rate_limit]`",
            "seaworthy.toml:18:1 route[3] `match` is missing",
        ]
    );
}

#[test]
fn kinds_of_clients_are_read_and_their_faults_named() {
    let many = vec!["\"10.0.0.0/8\""; 65].join(", ");
    let faults = faults_of(&format!(
        "[consumers]\ninternal = {{ networks = [{many}] }}\n\
         external = {{ networks = [\"everywhere\"], agents = [\"a*b\"], agent = 1 }}\n"
    ));
    assert_eq!(
        faults,
        [
            "seaworthy.toml:2:25 consumers.internal.networks expected at most 64, not 65",
            "seaworthy.toml:3:26 consumers.external.networks[0] expected a network such as \
             \"203.0.113.0/24\" or \"2001:db8::/32\", or an address, not \"everywhere\"",
            "seaworthy.toml:3:51 consumers.external.agents[0] expected a User-Agent such as \
             \"curl/8.5.0\", or its beginning such as \"curl/*\", not \"a*b\"",
            "seaworthy.toml:3:59 consumers.external.agent unknown key; did you mean `agents`?",
        ]
    );
    let config = config_of("[consumers]\ninternal = { agents = [\"helpdesk-worker/*\"] }\n");
    let kind = |agent| classify(&config.consumers, [192, 0, 2, 1].into(), agent);
    assert_eq!(kind("Helpdesk-Worker/1"), ConsumerKind::Internal);
    assert_eq!(kind("curl/8.5.0"), ConsumerKind::Unknown);
}

#[test]
fn routes_are_bounded_and_a_list() {
    let many = "[[route]]\nmatch = \"/a\"\n".repeat(513);
    assert_eq!(faults_of(&many), ["seaworthy.toml:1:1 route expected at most 512 routes, not 513"]);
    assert_eq!(
        faults_of("[route]\nmatch = \"/a\"\n"),
        ["seaworthy.toml:1:1 route expected a list of tables, each below a line `[[route]]`"]
    );
    let conflict = "[[route]]\nmatch = \"/a/{b}\"\n[[route]]\nmatch = \"GET /a/{c}\"\n";
    let faults = faults_of(conflict);
    assert!(faults[0].starts_with("seaworthy.toml:4:9 route[1].match"), "{faults:?}");
}

#[test]
fn named_files_are_there_and_hold_what_they_should() {
    let folder = Folder::with("");
    let path = |name: &str| folder.dir.path().join(name).display().to_string();
    folder.write("empty.pem", "nothing in here\n");
    folder.write(
        FILE_NAME,
        &format!(
            "[service]\nca = {:?}\n[listen]\ntls = {{ cert = {:?}, key = {:?} }}\n",
            path("absent.pem"),
            path("empty.pem"),
            path("empty.pem")
        ),
    );
    let faults = folder.faults(&folder.inputs());
    for (fault, want) in faults.iter().zip([
        "service.ca absent.pem cannot be read: No such file",
        "listen.tls.cert empty.pem holds no certificate in PEM",
        "listen.tls.key empty.pem holds no private key in PEM",
    ]) {
        assert!(fault.contains(want), "{fault}");
    }
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn settings_say_who_set_them() {
    let folder = Folder::with(
        "[service]\nname = \"helpdesk\"\neject = { failures = 2 }\n[protect.rate_limit]\n\
         keys = 9\n[[route]]\nmatch = \"/a\"\n[route.protect.rate_limit]\nmode = \"off\"\n",
    );
    let inputs = Inputs {
        env: env(&[("SEAWORTHY__LOG__LEVEL", "debug")]),
        flags: Flags { upstreams: vec!["http://a".to_owned()], ..Flags::default() },
        ..folder.inputs()
    };
    let settings = load(&inputs).unwrap().settings();
    let shown = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).expect(key);
        let origin = setting.origin.to_string();
        let origin = origin.rsplit('/').next().unwrap().to_owned();
        (setting.value.to_string(), origin)
    };
    for (key, value, origin) in [
        ("service.name", "\"helpdesk\"", "seaworthy.toml:2"),
        ("service.upstreams", "[\"http://a:80\"]", "--upstream"),
        ("service.eject.failures", "2", "seaworthy.toml:3"),
        ("service.eject.for", "\"5s\"", "default"),
        ("service.health", "null", "default"),
        ("log.level", "\"debug\"", "SEAWORTHY__LOG__LEVEL"),
        ("protect.rate_limit.keys", "9", "seaworthy.toml:5"),
        ("protect.rate_limit.mode", "\"auto\"", "default"),
        ("route[0].match", "\"/a\"", "seaworthy.toml:7"),
        ("route[0].protect.rate_limit.mode", "\"off\"", "seaworthy.toml:9"),
        ("route[0].protect.rate_limit.keys", "9", "seaworthy.toml:5"),
    ] {
        assert_eq!(shown(key), (value.to_owned(), origin.to_owned()), "{key}");
    }
    assert!(!settings.iter().any(|setting| setting.key.starts_with("route[0].protect.cors")));
    let built_in = inspect(&Inputs::default()).unwrap().settings();
    assert!(built_in.iter().all(|setting| setting.origin == Origin::Default));
}

/// [`DEFAULT_TOML`] without the `#` before its defaults, or before its examples (`# e.g. `).
/// A comment in words starts with `# `.
fn uncommented(examples: bool) -> String {
    let line = |line: &str| -> String {
        match line.strip_prefix("# e.g. ") {
            Some(example) if examples => return example.to_owned(),
            _ => {}
        }
        match line.strip_prefix('#') {
            Some(code) if !examples && (!code.starts_with(' ') || code.starts_with("  ")) => {
                // Modes are explained in a table of their own.
                if code.trim_start().starts_with('"') && !code.trim_end().ends_with(',') {
                    return line.to_owned();
                }
                code.to_owned()
            }
            _ => line.to_owned(),
        }
    };
    DEFAULT_TOML.lines().map(|text| line(text) + "\n").collect()
}

/// The paths of all values in `value` that are not tables, absent ones left out.
fn leaves(path: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (key, member) in members {
                leaves(&format!("{path}.{key}"), member, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_default_file_says_what_the_code_does() {
    let values = |config: &Config| {
        config.settings().into_iter().map(|s| (s.key, s.value)).collect::<Vec<_>>()
    };
    let code = values(&config_of(""));
    assert_eq!(values(&inspect(&Inputs::default()).unwrap()), code, "as it is");
    let all = uncommented(false);
    assert_eq!(values(&config_of(&all)), code, "with every key in force");

    // Every key is there, and none is there that means nothing.
    let mut report = Report::default();
    let tree = tree::parse(&all, &mut report);
    let mut written = BTreeSet::new();
    tree.for_each_leaf(&Path::default(), &mut |path, _| {
        written.insert(format!(".{path}"));
    });
    let mut known = BTreeSet::new();
    leaves("", &serde_json::to_value(Sections::default()).unwrap(), &mut known);
    assert_eq!(written, known);
    for entry in REGISTRY {
        let section = format!("\n[protect.{}]\n", entry.name);
        assert!(DEFAULT_TOML.contains(&section), "{} has no section", entry.name);
        assert_eq!((entry.mode)(&Protect::default()), entry.default_mode);
    }
}

#[test]
fn the_examples_of_the_default_file_are_right() {
    let folder = Folder::with(&uncommented(true));
    let faults = inspect(&folder.inputs()).unwrap_err();
    let missing: Vec<_> = faults.list().iter().map(|fault| fault.key.as_str()).collect();
    // The files and variables that they name are the only thing that is wrong.
    let named = [
        "service.ca",
        "listen.tls.cert",
        "listen.tls.key",
        "modes.redis_password",
        "modes.redis_ca",
        "protect.access.matrix",
        "protect.access.api_keys.keys",
        "route[0].protect.signature.secrets",
        "protect.signature.secrets",
        "protect.request_schema.openapi",
        "alerts.secrets",
    ];
    assert_eq!(missing, named, "{faults}");
    let without: String = uncommented(true)
        .lines()
        .filter(|line| {
            ![".pem", "\"env:", "\"file:", "openapi.yaml"].iter().any(|text| line.contains(text))
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let config = config_of(&without);
    assert_eq!(config.service.upstreams.len(), 2);
    let health = config.service.health.unwrap();
    let by_default: Health = serde_json::from_str(r#"{"path": "/healthz"}"#).unwrap();
    assert_eq!(health, by_default);
    let traces = |route: &&Route| route.pattern.to_string() == "POST /api/traces";
    let route = config.routes.iter().find(traces).unwrap();
    assert_eq!(route.overrides.len(), 2);
    assert_eq!(route.protect.body_limit.max, ByteSize::mib(1));
}

#[test]
fn alerts_need_a_secret_that_is_one() {
    let with = |toml: &str| {
        let folder = Folder::with(toml);
        let long = ("ALERTS_SECRET", "a secret of the alerts, 32 bytes+");
        let env = env(&[long, ("SHORT", "hunter2")]);
        let inputs = Inputs { env, ..folder.inputs() };
        match inspect(&inputs) {
            Ok(config) => {
                let intake =
                    Intake::build(&config.alerts, &config.sources).expect("it was checked");
                vec![intake.is_some().to_string()]
            }
            Err(_) => folder.faults(&inputs),
        }
    };
    for (toml, want) in [
        ("", "false"),
        ("[alerts]\nsecrets = [\"env:ALERTS_SECRET\"]", "true"),
        (
            "[alerts]\ntokens = [\"env:TOKEN\"]",
            "seaworthy.toml:2:10 alerts.tokens env:TOKEN is not set",
        ),
        (
            "[alerts]\nsecrets = [\"env:SHORT\"]",
            "seaworthy.toml:2:11 alerts.secrets env:SHORT has 7 bytes; a secret needs at least 32",
        ),
        (
            "[alerts]\nsecret = \"env:SHORT\"",
            "seaworthy.toml:2:1 alerts.secret unknown key; did you mean `secrets`?",
        ),
        (
            "[alerts]\nsecrets = [\"hunter2\"]",
            "seaworthy.toml:2:12 alerts.secrets[0] expected \"env:<NAME>\" or \"file:<path>\"",
        ),
        (
            "[alerts]\ntolerance = \"2h\"",
            "seaworthy.toml:2:13 alerts.tolerance expected \"1s\" to \"1h\", not \"2h\"",
        ),
    ] {
        let said = with(toml).concat();
        assert!(said.starts_with(want), "{toml}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_source_that_cannot_be_read_is_one_fault() {
    const LOCAL: &str = "expected \"env:<NAME>\" or \"file:<path>\"";
    const REMOTE: &str = "expected \"https://…\", \"file:<path>\" or \"env:<NAME>\"";
    for (toml, want) in [
        (
            "[protect.access]\njwt = { jwks = \"http://id.example/jwks\" }",
            format!("seaworthy.toml:2:16 protect.access.jwt.jwks {REMOTE}"),
        ),
        (
            "[protect.access.jwt]\nsecret = \"hunter2\"",
            format!("seaworthy.toml:2:10 protect.access.jwt.secret {LOCAL}"),
        ),
        (
            "[protect.access.jwt]\nsecret = \"https://a.example/b\"",
            format!("seaworthy.toml:2:10 protect.access.jwt.secret {LOCAL}"),
        ),
        (
            "[protect.signature]\nsecrets = [\"https://a.example/b\"]",
            format!("seaworthy.toml:2:12 protect.signature.secrets[0] {LOCAL}"),
        ),
        (
            "[protect.access]\njwt = {}",
            "seaworthy.toml:2:7 protect.access.jwt expected `jwks` or `secret`".to_owned(),
        ),
        (
            "[protect.access]\napi_keys = { keys = \"hunter2\" }",
            format!("seaworthy.toml:2:21 protect.access.api_keys.keys {LOCAL}"),
        ),
    ] {
        assert_eq!(faults_of(toml), [want], "{toml}");
    }
}

#[test]
fn all_that_is_wrong_with_a_protection_is_told_at_its_own_line() {
    let faults = faults_of(
        r#"[protect.vocabulary.vocabularies.one]
sum_tolerance = 20.0
values = { a = ["x"],
b = ["X"] }
[[protect.vocabulary.fields]]
route = "/a"
at = "/x"
shape = "scalar"
vocabulary = "paymnt"
[protect.core_rule_set]
crs = ["gone", "lost"]
[protect.core_rule_set.rules]
1 = "off"
"#,
    );
    let place = |fault: &String| fault.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
    let places: Vec<_> = faults.iter().map(place).collect();
    let want: [Vec<&str>; 5] = [
        vec!["seaworthy.toml:2:17", "protect.vocabulary.vocabularies.one.sum_tolerance"],
        vec!["seaworthy.toml:4:5", "protect.vocabulary.vocabularies.one.values.b"],
        vec!["seaworthy.toml:9:14", "protect.vocabulary.fields[0].vocabulary"],
        vec!["seaworthy.toml:11:8", "protect.core_rule_set.crs[0]"],
        vec!["seaworthy.toml:11:16", "protect.core_rule_set.crs[1]"],
    ];
    assert_eq!(places, want, "{faults:#?}");
    let folder = Folder::with(
        "[protect.core_rule_set]\ncrs = [\"env:RULES\"]\n[protect.core_rule_set.rules]\n1 = \"off\"\n\
         999999 = \"off\"\n",
    );
    let rules = ("RULES", "SecAction \"id:1,pass\"");
    let inputs = Inputs { env: env(&[rules]), ..folder.inputs() };
    assert_eq!(
        folder.faults(&inputs),
        ["seaworthy.toml:5:10 protect.core_rule_set.rules.999999 there is no rule 999999 that \
          could be switched"]
    );
}

#[test]
fn a_core_rule_set_without_its_setup_is_a_fault() {
    let folder = Folder::with("[protect.core_rule_set]\ncrs = [\"env:SETUP\", \"env:RULES\"]\n");
    let rules = "SecRule &TX:crs_setup_version \"@eq 0\" \"id:901001,phase:1,deny,status:500\"";
    let setup = "SecAction \"id:900990,phase:1,pass,setvar:tx.crs_setup_version=339\"";
    let with = |setup: &str| {
        let env = env(&[("SETUP", setup), ("RULES", rules)]);
        folder.faults(&Inputs { env, ..folder.inputs() })
    };
    let faults = with("SecAction \"id:1,pass\"");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("core_rule_set.crs rule 901001 denies every request"), "{faults:?}");
    let env = env(&[("SETUP", setup), ("RULES", rules)]);
    assert!(inspect(&Inputs { env, ..folder.inputs() }).is_ok());
}

#[test]
fn a_fault_of_sense_is_not_hidden_by_one_of_shape_in_another_field() {
    let field = |at: &str, vocabulary: &str| {
        format!(
            "[[protect.vocabulary.fields]]\nroute = \"/a\"\nshape = \"scalar\"\nat = \"{at}\"\n\
             vocabulary = \"{vocabulary}\"\n"
        )
    };
    let faults = faults_of(&(field("x", "stages") + &field("/x", "food")));
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains("fields[0].at expected a JSON Pointer")));
    assert!(faults.iter().any(|fault| fault.contains("there is no vocabulary \"food\"")));
}

#[test]
fn nothing_is_learned_unless_it_is_asked_for() {
    let sampling = |toml: &str| config_of(toml).learn.sampling();
    let interval = |toml: &str| sampling(toml).map(|s| (s.interval.as_millis(), s.burst));
    assert_eq!(sampling(""), None);
    assert_eq!(sampling("[learn]\nsample = \"1/s\""), None);
    assert_eq!(interval("[learn]\nenabled = true"), Some((200, 5)));
    assert_eq!(interval("[learn]\nenabled = true\nsample = \"100/min\""), Some((600, 100)));
    assert_eq!(interval("[learn]\nenabled = true\nsample = \"9000/min\""), Some((6, 1000)));
}

#[test]
fn a_fleet_is_joined_where_a_redis_is_named() {
    let options = |toml: &str, variables: &[(&str, &str)]| {
        let folder = Folder::with(toml);
        let inputs = Inputs { env: env(variables), ..folder.inputs() };
        let config = inspect(&inputs).unwrap_or_else(|faults| panic!("{faults}"));
        let shown = format!("{:?}", config.settings());
        assert!(!shown.contains("hunter2"), "{shown}");
        config.modes.fleet_options(&config.service, &config.sources, FilePath::new("snapshot"))
    };
    assert!(options("", &[]).is_none());
    let named = "[service]\nname = \"desk\"\n[modes]\nredis = \"redis://modes.example/1\"\n";
    let found = options(named, &[]).unwrap();
    assert_eq!(found.url.to_string(), "redis://modes.example:6379/1");
    assert_eq!((found.prefix.as_str(), found.password), ("seaworthy:desk", None));
    assert_eq!(found.snapshot, FilePath::new("snapshot"));
    let more = "fleet = \"eu.desk-1\"\nredis_password = \"env:SECRET\"\nredis_timeout = \"1s\"";
    let found = options(&format!("{named}{more}"), &[("SECRET", "hunter2\n")]).unwrap();
    assert_eq!((found.prefix.as_str(), found.timeout.as_secs()), ("seaworthy:eu.desk-1", 1));
    assert_eq!(found.password.as_deref(), Some("hunter2"));
}

#[test]
fn what_is_wrong_with_a_fleet_is_named_without_its_secrets() {
    let redis = "[modes]\nredis = \"redis://modes.example\"\n";
    let named = format!("{redis}fleet = \"desk\"\n");
    for (toml, key, said) in [
        (
            "[modes]\nredis = \"redis://u:hunter2@modes.example\"",
            "modes.redis",
            "password does not",
        ),
        ("[modes]\nredis = \"modes.example\"", "modes.redis", "expected \"redis://host:port\""),
        (redis, "modes.redis", "expected `fleet`, or a `service.name` of its own"),
        (
            &format!("[service]\nname = \"Help Desk\"\n{redis}"),
            "modes.redis",
            "`service.name` cannot stand in for it",
        ),
        (&format!("{redis}fleet = \"a b\""), "modes.fleet", "expected 1 to 100 of"),
        (&format!("{redis}fleet = \"\""), "modes.fleet", "expected 1 to 100 of"),
        (
            &format!("{named}redis_password = \"hunter2\""),
            "modes.redis_password",
            "expected \"env:",
        ),
        (&format!("{named}redis_password = \"env:GONE\""), "modes.redis_password", "is not set"),
        (
            &format!("{named}redis_password = \"https://a.example/\""),
            "modes.redis_password",
            "expected \"env:<NAME>\" or \"file:<path>\"",
        ),
        (&format!("{named}redis_ca = \"gone.pem\""), "modes.redis_ca", "\"rediss://\""),
        ("[modes]\nredis_ca = \"gone.pem\"", "modes.redis", "expected where Redis is"),
        (&format!("{named}redis_timeout = \"1ms\""), "modes.redis_timeout", "\"10ms\" to \"10s\""),
        (&format!("{named}redis_refresh = \"2h\""), "modes.redis_refresh", "\"100ms\" to \"1h\""),
    ] {
        let folder = Folder::with(toml);
        let faults = inspect(&folder.inputs()).unwrap_err();
        let fault = &faults.list()[0];
        assert!(fault.key == key && fault.message.contains(said), "{toml}: {faults}");
        assert!(!faults.to_string().contains("hunter2"), "{faults}");
    }
}

#[test]
fn the_config_of_the_manual_is_right() {
    let config = config_of(
        r#"
[service]
name = "helpdesk"
upstreams = ["http://127.0.0.1:3000", "http://127.0.0.1:3001"]
[listen]
addr = "0.0.0.0:8080"
[console]
addr = "127.0.0.1:9900"
[store]
dir = "seaworthy-data"
[client]
tenant = { header = "x-tenant-id" }
identity = ["bearer", "header:x-api-key", "cookie:session", "ip"]
trusted_proxies = ["10.0.0.0/8"]
[protect.rate_limit]
mode = "auto"
limits = [{ per = "client", rate = "100/min", burst = 50 }, { per = "tenant", rate = "5000/min", burst = 500 }]
[[route]]
match = "POST /api/traces"
body_limit = "1MiB"
[route.protect.rate_limit]
limits = [{ per = "client", rate = "20/min", burst = 20 }]
"#,
    );
    assert_eq!(config.protect.rate_limit.limits.len(), 2);
    assert_eq!(config.protect.rate_limit.mode, ModeSetting::Auto);
    let at = |name| position(name).unwrap();
    assert_eq!(config.routes[0].overrides, [at("rate_limit"), at("body_limit")]);
}
