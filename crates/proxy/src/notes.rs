//! Notes for the log: why a rule denied or would have denied, and why the gateway failed.
//!
//! A worker never writes to the log itself, since a slow terminal or disk would stop its
//! clients. It copies a note into a bounded ring; the other side samples and writes.

use std::sync::Arc;

use arrayvec::ArrayString;
use seaworthy_policy::client::{Client, ClientKey};
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::record::{PathText, RequestId, RouteId, RuleId, Tenant, abridge};

use crate::findings::Objection;
use crate::snapshot::Link;

/// One line for the log.
#[derive(Clone, Debug)]
pub struct Note {
    pub request: RequestId,
    pub client: ClientKey,
    pub tenant: Tenant,
    pub path: PathText,
    pub route: RouteId,
    pub code: Code,
    /// What the client is not told.
    pub internal: ArrayString<160>,
    pub source: NoteSource,
    /// What the client may be told.
    pub objection: Objection,
}

/// Who wrote a note.
#[derive(Clone, Debug)]
pub enum NoteSource {
    /// A rule; `denied` says whether it was enforced or only noted.
    Rule { id: RuleId, name: Arc<str>, denied: bool },
    /// The gateway itself: a malformed request, an upstream that failed.
    Gateway,
}

/// What a request asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) path: PathText,
    /// The operation of the service, else the config's route.
    pub(crate) route: RouteId,
}

impl Note {
    pub(crate) fn rule(
        request: &RequestId,
        client: Client,
        asked: Asked,
        link: &Link,
        (denial, denied): (&Denial, bool),
    ) -> Self {
        let name = Arc::clone(&link.rule_name);
        let source = NoteSource::Rule { id: link.rule, name, denied };
        Self::new(request, client, asked, denial, source)
    }

    pub(crate) fn gateway(
        request: &RequestId,
        client: Client,
        path: PathText,
        denial: &Denial,
    ) -> Self {
        let asked = Asked { path, route: RouteId(0) };
        Self::new(request, client, asked, denial, NoteSource::Gateway)
    }

    fn new(
        request: &RequestId,
        client: Client,
        asked: Asked,
        denial: &Denial,
        source: NoteSource,
    ) -> Self {
        let internal = if denial.internal.is_empty() { &denial.detail } else { &denial.internal };
        Self {
            request: *request,
            client: client.key,
            tenant: client.tenant,
            path: asked.path,
            route: asked.route,
            code: denial.code,
            internal: abridge(internal),
            source,
            objection: Objection::of(denial),
        }
    }
}
