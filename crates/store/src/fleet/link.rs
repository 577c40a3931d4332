//! One connection to Redis: commands with a bound on their time and their answers, and what is
//! published meanwhile.
//!
//! RESP3 carries both, so that a connection that answers is one on which messages arrive. The
//! scripts beside this file bound what comes back; [`Metered`] bounds it for a server that does
//! not run them as they are.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, Value,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use seaworthy_policy::modes::{CAUSE_BYTES_MAX, RULE_NAME_BYTES_MAX, RULES_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::address::RedisUrl;
use super::metered::{Allowance, Metered};

const READ: &str = include_str!("read.lua");
const WRITE: &str = include_str!("write.lua");
const LEASE: &str = include_str!("lease.lua");
const RELEASE: &str = include_str!("release.lua");

/// Fields of the hash that are read at once: all rules, and as many that are none of ours.
const FIELDS_MAX: usize = 2 * RULES_MAX;

/// Bytes of an entry as JSON: its cause twice, for every character of it can be an escape, and
/// less than half a KiB for the rest.
pub(super) const VALUE_BYTES_MAX: usize = 1024;
const _: () = assert!(2 * CAUSE_BYTES_MAX + 512 <= VALUE_BYTES_MAX);

/// Bytes of a message: a name, a line end, an entry.
const MESSAGE_BYTES_MAX: usize = RULE_NAME_BYTES_MAX + 1 + VALUE_BYTES_MAX;

/// Messages that wait for their reader: every rule twice. More are let go, for the next refresh
/// reads everything.
const MESSAGES_MAX: usize = 2 * RULES_MAX;

/// Bytes that one command, or one message, may bring: more than [`FIELDS_MAX`] fields have.
const REPLY_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(FIELDS_MAX * (MESSAGE_BYTES_MAX + 64) <= REPLY_BYTES_MAX);

/// Where the modes of one fleet are, and how to get there.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) url: RedisUrl,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) prefix: String,
    /// For each step: name and connection, TLS, greeting, and every command.
    pub(super) timeout: Duration,
}

impl Place {
    /// Its values have this form: another form would have another key.
    fn modes(&self) -> String {
        format!("{}:modes.v1", self.prefix)
    }

    fn channel(&self) -> String {
        format!("{}:modes.v1:changed", self.prefix)
    }

    fn leader(&self) -> String {
        format!("{}:leader", self.prefix)
    }
}

/// Why a command did not do what it should. Fits after "failed to …: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection ended: {0}")]
    Ended(RedisError),
    #[error("TLS is not set up for it")]
    NoTls,
    #[error("it has no RESP3, which Redis has since version 6")]
    NoResp3,
    #[error("it refuses: {0}")]
    Refused(RedisError),
    #[error("{key} is a {kind} and no hash of modes; delete it, or give this fleet another name")]
    NotModes { key: String, kind: String },
    #[error("{key} is something else; delete it, or give this fleet another name")]
    NotLease { key: String },
    #[error("{0} answered something that this program did not ask for")]
    Unexpected(&'static str),
}

impl LinkError {
    /// Whether another connection could help at once: this one was closed by the other side.
    pub(super) const fn is_ended(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Ended(_))
    }

    /// Whether the connection is of use all the same: what is published still arrives.
    pub(super) const fn leaves_messages(&self) -> bool {
        matches!(self, Self::NotModes { .. })
    }

    /// Whether it is a copy that answered. Another may be found where the name leads by now.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code() == Some("READONLY"))
    }

    /// Whether there was an answer, and it was no good.
    pub(super) const fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::NoResp3
                | Self::Refused(_)
                | Self::NotModes { .. }
                | Self::NotLease { .. }
                | Self::Unexpected(_)
        )
    }
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::RESP3NotSupported => Self::NoResp3,
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
                Self::Refused(error)
            }
            _ => Self::Ended(error),
        }
    }
}

/// What is stored for a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Text(Vec<u8>),
    /// More than [`VALUE_BYTES_MAX`]. It is not fetched.
    Long,
}

/// Everything that is stored.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) fields: Vec<(Vec<u8>, Raw)>,
    /// Fields that are not among them.
    pub(super) passed: u64,
}

/// One value to write, if what is there is still what was seen.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) rule: String,
    pub(super) seen: Option<Raw>,
    pub(super) value: String,
}

/// What became of a [`Change`].
#[derive(Debug)]
pub(super) enum Answer {
    Written,
    /// This is there instead.
    Other(Option<Raw>),
}

/// Who holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    We,
    Another,
}

/// What arrives by itself.
#[derive(Debug)]
pub(super) enum Push {
    /// A rule's name, a line end, its entry.
    Message(Vec<u8>),
    /// A message that is longer than any of ours.
    Refused,
    Ended,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

pub(super) struct Link {
    place: Arc<Place>,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    allowance: Allowance,
    pushes: mpsc::Receiver<Push>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects and listens to what is published from here on.
    pub(super) async fn open(place: &Arc<Place>) -> Result<Self, LinkError> {
        let allowance = Allowance::of(REPLY_BYTES_MAX);
        let stream = Metered { inner: connect(place).await?, allowance: allowance.clone() };
        let (sender, pushes) = mpsc::channel(MESSAGES_MAX);
        let renewed = allowance.clone();
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(
            move |push: PushInfo| {
                renewed.renew();
                forward(push, &sender)
            },
        );
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(i64::from(place.url.database))
            .set_skip_set_lib_name();
        if let Some(user) = &place.url.user {
            info = info.set_username(user);
        }
        if let Some(password) = &place.password {
            info = info.set_password(password);
        }
        let greeting = MultiplexedConnection::new_with_config(&info, stream, config);
        let (connection, driver) = within(place.timeout, greeting).await??;
        let driver = tokio::spawn(driver);
        let place = Arc::clone(place);
        let mut link = Self { place, connection, driver, allowance, pushes };
        let channel = link.place.channel();
        within(link.place.timeout, link.connection.subscribe(channel)).await??;
        Ok(link)
    }

    /// Everything that is stored; only `rules` where there is more than modes can be.
    pub(super) async fn read(
        &mut self,
        rules: impl Iterator<Item = &str>,
    ) -> Result<Look, LinkError> {
        let mut command = script(READ, &self.place.modes());
        command.arg(FIELDS_MAX).arg(RULE_NAME_BYTES_MAX).arg(VALUE_BYTES_MAX);
        for rule in rules {
            command.arg(rule);
        }
        const WHO: &str = "reading the modes";
        let Value::Array(answer) = self.ask(&command).await? else {
            return Err(LinkError::Unexpected(WHO));
        };
        let mut answer = answer.into_iter();
        let (Some(Value::BulkString(kind)), Some(Value::Int(passed))) =
            (answer.next(), answer.next())
        else {
            return Err(LinkError::Unexpected(WHO));
        };
        if kind != b"hash" && kind != b"none" {
            return Err(self.not_modes(&kind));
        }
        let mut look = Look { fields: Vec::new(), passed: u64::try_from(passed).unwrap_or(0) };
        while let Some(name) = answer.next() {
            match (name, answer.next()) {
                (Value::BulkString(name), Some(Value::BulkString(text))) => {
                    look.fields.push((name, Raw::Text(text)));
                }
                (Value::BulkString(name), Some(Value::Nil)) => look.fields.push((name, Raw::Long)),
                _ => return Err(LinkError::Unexpected(WHO)),
            }
        }
        Ok(look)
    }

    /// Writes `changes` and tells the others of them; an answer for each.
    pub(super) async fn write(&mut self, changes: &[Change]) -> Result<Vec<Answer>, LinkError> {
        let mut command = script(WRITE, &self.place.modes());
        command.arg(self.place.channel()).arg(VALUE_BYTES_MAX);
        for change in changes {
            let (expected, text) = match &change.seen {
                None => ("none", &[][..]),
                Some(Raw::Long) => ("long", &[][..]),
                Some(Raw::Text(text)) => ("text", &text[..]),
            };
            command.arg(&change.rule).arg(expected).arg(text).arg(&change.value);
        }
        let answers = match self.ask(&command).await? {
            Value::Array(answers) if answers.len() == changes.len() => answers,
            Value::BulkString(kind) => return Err(self.not_modes(&kind)),
            _ => return Err(LinkError::Unexpected("writing modes")),
        };
        let read = |answer| match answer {
            Value::Int(1) => Ok(Answer::Written),
            Value::Int(0) => Ok(Answer::Other(None)),
            Value::Int(2) => Ok(Answer::Other(Some(Raw::Long))),
            Value::BulkString(text) => Ok(Answer::Other(Some(Raw::Text(text)))),
            _ => Err(LinkError::Unexpected("writing modes")),
        };
        answers.into_iter().map(read).collect()
    }

    /// Takes or prolongs the lease for the holder of `token`.
    pub(super) async fn lease(
        &mut self,
        token: &str,
        lasts: Duration,
    ) -> Result<Holder, LinkError> {
        let mut command = script(LEASE, &self.place.leader());
        command.arg(token).arg(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        match self.ask(&command).await? {
            Value::Int(1) => Ok(Holder::We),
            Value::Int(0) => Ok(Holder::Another),
            Value::Int(-1) => Err(LinkError::NotLease { key: self.place.leader() }),
            _ => Err(LinkError::Unexpected("the lease")),
        }
    }

    pub(super) async fn release(&mut self, token: &str) -> Result<(), LinkError> {
        let mut command = script(RELEASE, &self.place.leader());
        command.arg(token);
        self.ask(&command).await.map(drop)
    }

    /// Whatever arrives next. Nothing is lost where this is not awaited to its end.
    pub(super) async fn heard(&mut self) -> Push {
        self.pushes.recv().await.unwrap_or(Push::Ended)
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, LinkError> {
        self.allowance.renew();
        let answer = self.connection.send_packed_command(command);
        match within(self.place.timeout, answer).await?? {
            Value::ServerError(error) => Err(LinkError::Refused(error.into())),
            answer => Ok(answer),
        }
    }

    fn not_modes(&self, kind: &[u8]) -> LinkError {
        let kind = String::from_utf8_lossy(kind).into_owned();
        LinkError::NotModes { key: self.place.modes(), kind }
    }
}

async fn connect(place: &Place) -> Result<Box<dyn Duplex>, LinkError> {
    let host = place.url.host.as_str();
    let tcp = within(place.timeout, TcpStream::connect((host, place.url.port))).await??;
    tcp.set_nodelay(true)?;
    if !place.url.tls {
        return Ok(Box::new(tcp));
    }
    let config = Arc::clone(place.tls.as_ref().ok_or(LinkError::NoTls)?);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connected = TlsConnector::from(config).connect(name, tcp);
    Ok(Box::new(within(place.timeout, connected).await??))
}

async fn within<T>(timeout: Duration, step: impl Future<Output = T>) -> Result<T, LinkError> {
    tokio::time::timeout(timeout, step).await.map_err(|_| LinkError::Timeout(timeout))
}

fn script(text: &str, key: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

/// Queues what was pushed. Never fails: the connection would end.
fn forward(push: PushInfo, sender: &mpsc::Sender<Push>) -> Result<(), redis::aio::SendError> {
    let push = match push.kind {
        PushKind::Disconnection => Push::Ended,
        PushKind::Message => match push.data.into_iter().nth(1) {
            Some(Value::BulkString(text)) if text.len() <= MESSAGE_BYTES_MAX => Push::Message(text),
            _ => Push::Refused,
        },
        _ => return Ok(()),
    };
    if sender.try_send(push).is_err() {
        tracing::debug!("messages arrive faster than they are read; the next refresh has it all");
    }
    Ok(())
}
