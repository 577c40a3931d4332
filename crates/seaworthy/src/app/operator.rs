//! What a command asks of the rules: the running gateway through its console, or the ledger where
//! none runs.
//!
//! 1. A gateway that answers is asked, and nothing is written behind its back.
//! 2. Only where nobody listens is the ledger written, and only where nobody holds its lock.
//! 3. A gateway of a fleet takes up the fleet's modes when it starts, so that there a mode is not
//!    written to the ledger: one that runs has to be asked.
//! 4. A gateway is another one if it writes another audit log than that of the data folder. It is
//!    asked only where it was named; several can be on one machine, and the address is a guess.
//! 5. Whatever else happens is an error: who did not hear the answer cannot know what was done.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;
use jiff::Timestamp;
use seaworthy_console::control::{self, Command, Done, Refused, RuleStanding};
use seaworthy_policy::mode::ModeSetting;
use seaworthy_policy::registry::{REGISTRY, position};
use seaworthy_store::StoreError;
use seaworthy_store::ledger::LedgerReader;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::outbound::{self, AskError};
use super::rollout::{Offline, OfflineError};
use super::serve;
use crate::config::{Config, Faults};

/// The longest that the console may take. A promotion waits for the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of an answer: 1,024 rules with two versions and eight gates each have less.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Through {
    Gateway,
    Ledger,
}

/// Where a gateway is.
pub(crate) struct Way {
    pub(crate) console: SocketAddr,
    /// Whether the console was named, and is not only that of the config.
    pub(crate) is_named: bool,
    /// What is wrong with it matters only where no gateway answers: whoever has to demote a rule
    /// need not mend a file first.
    pub(crate) config: Result<Config, Faults>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    /// No gateway answers, and without one the config has to be right.
    #[error("{0}")]
    Config(Faults),
    #[error("the console at {0} {1}")]
    NoAnswer(SocketAddr, String),
    #[error("the gateway at {console} is another one than that of {}", dir.display())]
    Other { console: SocketAddr, dir: PathBuf },
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody listens at the console, and somebody has the ledger.
    #[error("no gateway answers at {console}, and one holds the ledger: {error}")]
    Held { console: SocketAddr, error: StoreError },
    #[error(
        "no gateway answers at {0}, and the fleet's modes win over those of the ledger when it starts"
    )]
    Fleet(SocketAddr),
    #[error("no gateway answers at {console}, and the ledger cannot be used: {error}")]
    Store { console: SocketAddr, error: StoreError },
}

#[derive(Deserialize)]
struct Rules {
    log: Option<String>,
    rules: Vec<RuleStanding>,
}

/// Where every rule stands, in the order of their names.
pub(crate) fn standings(way: &Way) -> Result<(Through, Vec<RuleStanding>), OperatorError> {
    let console = way.console;
    if let Some(rules) = running(way)? {
        return Ok((Through::Gateway, rules));
    }
    let rules = with_offline(way.config()?, |offline| offline.standings())
        .map_err(|error| OperatorError::Store { console, error })?;
    Ok((Through::Ledger, rules))
}

/// What the running gateway says; `None` where nobody listens.
fn running(way: &Way) -> Result<Option<Vec<RuleStanding>>, OperatorError> {
    let console = way.console;
    let Some(answer) = block_on(get_or_post(console, None)) else { return Ok(None) };
    let Rules { log, rules } = read(console, "", &answer?)?;
    if let (false, Ok(config), Some(log)) = (way.is_named, &way.config, log) {
        let dir = &config.store.dir;
        // A folder without a log is no reason to doubt.
        let own = LedgerReader::open_read_only(dir).and_then(|reader| reader.summary());
        if own.is_ok_and(|own| own.public_key.log().as_str() != log) {
            return Err(OperatorError::Other { console, dir: dir.clone() });
        }
    }
    Ok(Some(rules))
}

/// Has it done what an operator asks for.
pub(crate) fn ask(way: &Way, request: &control::Request) -> Result<(Through, Done), OperatorError> {
    let console = way.console;
    if !way.is_named {
        running(way)?;
    }
    let body = serde_json::to_vec(request).expect("a request is plain data");
    if let Some(answer) = block_on(get_or_post(console, Some(body))) {
        return Ok((Through::Gateway, read(console, &request.rule, &answer?)?));
    }
    let config = way.config()?;
    let is_local = matches!(request.command, Command::Waive { .. } | Command::Unwaive { .. });
    if config.modes.redis.is_some() && !is_local {
        return Err(OperatorError::Fleet(console));
    }
    let done = with_offline(config, |offline| block_on(offline.ask(request)));
    done.map(|done| (Through::Ledger, done)).map_err(|error| match error {
        OfflineError::Refused(refused) => refused.into(),
        OfflineError::Store(error @ StoreError::Locked { .. }) => {
            OperatorError::Held { console, error }
        }
        OfflineError::Store(error) => OperatorError::Store { console, error },
    })
}

impl Way {
    fn config(&self) -> Result<&Config, OperatorError> {
        self.config.as_ref().map_err(|faults| OperatorError::Config(faults.clone()))
    }
}

/// How the config sets the mode of `rule`; `None` where it has no such rule. Rules that a document
/// makes for its operations have the service's.
pub(crate) fn setting(config: &Config, rule: &str) -> Option<ModeSetting> {
    let (name, route) = match rule.split_once('@') {
        Some((name, route)) => (name, Some(route)),
        None => (rule, None),
    };
    let position = position(name)?;
    let own = config.routes.iter().find(|known| {
        Some(&*known.pattern.to_string()) == route && known.overrides.contains(&position)
    });
    let protect = own.map_or(&config.protect, |route| &route.protect);
    Some((REGISTRY[position].mode)(protect))
}

fn with_offline<T>(config: &Config, use_it: impl FnOnce(Offline<'_>) -> T) -> T {
    let setting = |rule: &str| setting(config, rule);
    use_it(Offline {
        dir: &config.store.dir,
        rollout: &config.rollout,
        gates: &config.gates,
        setting: &setting,
        now_unix_ms: Timestamp::now().as_millisecond(),
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    // It needs a thread and a poller of the system, without which no command could run.
    serve::runtime().expect("the system has threads").block_on(future)
}

/// The console's answer; `None` where nobody listens.
async fn get_or_post(
    console: SocketAddr,
    body: Option<Vec<u8>>,
) -> Option<Result<Response<Bytes>, OperatorError>> {
    if console.port() == 0 {
        // The system has chosen one, and only the gateway's log says which.
        return None;
    }
    let no_answer = |why: String| Err(OperatorError::NoAnswer(console, why));
    let url: Uri = format!("http://{console}/api/v1/rules").parse().expect("it is a URL");
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let request = Request::builder()
        .method(method)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.unwrap_or_default()))
        .expect("its parts are right");
    let asked = outbound::ask(&url, request, None, ANSWER_BYTES_MAX);
    Some(match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(AskError::Io(error))) if is_nobody(&error) => return None,
        Ok(Err(error)) => no_answer(format!("gave no answer: {error}")),
        Err(_) => no_answer(format!("gave no answer within {} s", ANSWER_WITHIN.as_secs())),
    })
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable)
}

fn read<T: DeserializeOwned>(
    console: SocketAddr,
    rule: &str,
    answer: &Response<Bytes>,
) -> Result<T, OperatorError> {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let status = answer.status();
    let foreign = || {
        let why = format!("is none of this Seaworthy: it answered {status} and nothing known");
        OperatorError::NoAnswer(console, why)
    };
    if status == StatusCode::OK {
        return serde_json::from_slice(answer.body()).map_err(|_| foreign());
    }
    let Problem { detail } = serde_json::from_slice(answer.body()).map_err(|_| foreign())?;
    Err(match status {
        StatusCode::NOT_FOUND if detail.starts_with("there is no rule") => {
            Refused::NoSuchRule(rule.to_owned()).into()
        }
        StatusCode::CONFLICT => Refused::NotNow(detail).into(),
        StatusCode::UNPROCESSABLE_ENTITY => Refused::BadRequest(detail).into(),
        StatusCode::SERVICE_UNAVAILABLE => Refused::NotKept(detail).into(),
        _ => OperatorError::NoAnswer(console, format!("answered {status}: {detail}")),
    })
}
