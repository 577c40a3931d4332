//! Says who may call what: API keys, JSON Web Tokens, and a matrix of roles and routes.
//!
//! 1. It judges where keys, tokens or a matrix are configured.
//! 2. A route that its row opens to `anonymous` is let in whatever comes with the request.
//! 3. Credentials are a bearer token, where tokens are configured, else an API key in its header.
//!    They are known by their signature or hash; nothing that is compared tells of them.
//! 4. Without a matrix everybody with valid credentials may call everything. With one, a role has to
//!    be allowed by the row of the route, and a route without a row is denied.
//! 5. Where the matrix isolates tenants, the request has to name the tenant of its credentials,
//!    unless one of its roles works across tenants.
//! 6. A CORS preflight is let pass: browsers send it without credentials, and it does nothing.
//! 7. The gateway's own resources are everybody's: who is denied can read why.
//! 8. Until the keys of the issuer are there, a token can be neither taken nor refused: that is
//!    the gateway's fault, and says so.

mod api_keys;
mod jwks;
mod jwt;
pub mod matrix;
mod written;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use http::{HeaderMap, HeaderName, Method};
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::api_keys::ApiKeys;
use self::jwt::{Claims, Expected, Key, Material, TokenFault};
use self::matrix::{Matrix, Roles};
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Effects, Outcome, Protection, Request};
use crate::quantity::Period;
use crate::registry::{BuildContext, BuildError, BuildErrors, Entry, SettingFault, settings_of};
use crate::source::{RemoteSource, Source};

pub use self::jwt::Algorithm;

pub const ENTRY: Entry = Entry {
    name: "access",
    summary: "Says who may call what: API keys, JSON Web Tokens, and a matrix of roles and routes.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real client may call without the credentials or the role that it needs",
    codes: &[
        Code::AccessCredentialsMissing,
        Code::AccessTokenInvalid,
        Code::AccessTokenExpired,
        Code::AccessKeyUnknown,
        Code::AccessRoleDenied,
        Code::AccessRouteUnknown,
        Code::AccessTenantMismatch,
        Code::AccessKeysUnavailable,
    ],
    mode: |protect| protect.access.mode,
    settings: |protect| settings_of(&protect.access),
    build: |protect, context| Ok(Arc::new(Access::build(&protect.access, context)?)),
    sources: |protect| protect.access.sources(),
    ..Entry::PLAIN
};

/// `[protect.access]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// The authorization matrix. Without one whoever has valid credentials may call everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeysConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode, matrix: None, api_keys: None, jwt: None }
    }
}

/// `[protect.access.api_keys]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeysConfig {
    /// The file with the keys' hashes; `seaworthy authz key` makes a row of it.
    pub keys: Source,
    /// The field that carries a key; this name is the most common one.
    #[serde(default = "default_header")]
    pub header: String,
}

fn default_header() -> String {
    "x-api-key".to_owned()
}

/// `[protect.access.jwt]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// The issuer's public keys: a file, or its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<RemoteSource>,
    /// A secret of at least 32 bytes that is shared with the issuer, for HS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Source>,
    /// What `iss` has to say. Any issuer where it is not set: its keys are known, after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What `aud` has to name. Where it is not set, tokens for an audience are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How far clocks may be apart. 30s is what issuers allow for themselves.
    #[serde(default = "default_leeway")]
    pub leeway: Period,
    /// The claim with the roles, a list or one string with blanks between; dots lead inside.
    #[serde(default = "default_roles_claim")]
    pub roles_claim: String,
    /// The claim with the tenant.
    #[serde(default = "default_tenant_claim")]
    pub tenant_claim: String,
    /// The algorithms that are taken; by default those of the keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
}

const fn default_leeway() -> Period {
    Period::secs(30)
}

fn default_roles_claim() -> String {
    "roles".to_owned()
}

fn default_tenant_claim() -> String {
    "tenant".to_owned()
}

impl Config {
    fn sources(&self) -> Vec<Source> {
        let jwt = self.jwt.iter().flat_map(|jwt| {
            let jwks = jwt.jwks.as_ref().map(|jwks| &jwks.0);
            [jwks, jwt.secret.as_ref()]
        });
        let keys = self.api_keys.iter().map(|keys| keys.keys.clone());
        jwt.chain([self.matrix.as_ref()]).flatten().cloned().chain(keys).collect()
    }
}

/// Less would be guessed sooner than the hash behind it (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Roles without a matrix: nobody asks for them.
fn no_role(_: &str) -> Option<Roles> {
    Some(Roles::NONE)
}

struct Access {
    matrix: Option<Matrix>,
    api_keys: Option<(HeaderName, ApiKeys)>,
    tokens: Option<Tokens>,
}

/// What is needed to judge a token.
struct Tokens {
    /// `None` until they have been fetched.
    keys: Option<Vec<Key>>,
    expected: Expected,
    roles_claim: Vec<String>,
    tenant_claim: Vec<String>,
    /// Tells this rule's memory from that of others.
    id: u64,
}

/// Who calls, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
struct Principal {
    roles: Roles,
    tenant: Option<String>,
}

impl Access {
    /// Reads what the settings name, or says everything that is wrong with it.
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildErrors> {
        let mut faults: Vec<SettingFault> = Vec::new();
        // Each fault of a file is one of its own.
        let mut read = |key: &'static str, source: &Source, all: Vec<String>| {
            let fault = |fault| BuildError { key, message: format!("{source}: {fault}") };
            faults.extend(all.into_iter().map(fault).map(SettingFault::from));
        };
        let mut unread = Vec::new();
        let mut matrix = None;
        if let Some(source) = &config.matrix {
            match context.sources.bytes(source).map(Matrix::read) {
                Ok(Ok(rows)) => matrix = Some(rows),
                Ok(Err(all)) => read("matrix", source, all),
                Err(message) => unread.push(BuildError { key: "matrix", message }),
            }
        }
        // What roles there are is known where the matrix is.
        let role = |name: &str| match &matrix {
            Some(matrix) => matrix.role(name),
            None => no_role(name),
        };
        let mut api_keys = None;
        if let Some(ApiKeysConfig { keys, header }) = &config.api_keys {
            let name = header.parse::<HeaderName>();
            if name.is_err() {
                let message = format!("expected the name of a header field, not {header:?}");
                unread.push(BuildError { key: "api_keys.header", message });
            }
            match context.sources.bytes(keys).map(|text| ApiKeys::read(text, role)) {
                Ok(Ok(known)) => api_keys = name.ok().map(|name| (name, known)),
                Ok(Err(all)) => read("api_keys.keys", keys, all),
                Err(message) => unread.push(BuildError { key: "api_keys.keys", message }),
            }
        }
        let tokens = match config.jwt.as_ref().map(|jwt| Tokens::build(jwt, context)).transpose() {
            Ok(tokens) => tokens,
            Err(error) => {
                unread.push(error);
                None
            }
        };
        if config.matrix.is_some() && config.api_keys.is_none() && config.jwt.is_none() {
            let message = "`matrix` needs credentials: set `api_keys` or `jwt`, too".to_owned();
            unread.push(BuildError { key: "", message });
        }
        faults.extend(unread.into_iter().map(SettingFault::from));
        if faults.is_empty() {
            Ok(Self { matrix, api_keys, tokens })
        } else {
            Err(BuildErrors(faults))
        }
    }
}

impl Tokens {
    fn build(config: &JwtConfig, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let error = |key: &'static str, message: String| BuildError { key, message };
        let keys = match (&config.jwks, &config.secret) {
            (Some(RemoteSource(source)), None) => match context.sources.bytes(source) {
                Ok(text) => {
                    let keys = jwks::read(text)
                        .map_err(|fault| error("jwt.jwks", format!("{source} {fault}")))?;
                    Some(keys)
                }
                Err(_) if source.is_remote() => None,
                Err(fault) => return Err(error("jwt.jwks", fault)),
            },
            (None, Some(source)) => {
                let text = context.sources.bytes(source);
                let secret = text.map_err(|fault| error("jwt.secret", fault))?.trim_ascii();
                if secret.len() < SECRET_BYTES_MIN {
                    let length = secret.len();
                    return Err(error(
                        "jwt.secret",
                        format!(
                            "{source} has {length} bytes; a secret needs at least {SECRET_BYTES_MIN}"
                        ),
                    ));
                }
                let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
                Some(vec![Key { kid: None, material }])
            }
            (Some(_), Some(_)) => {
                let message = "expected one of `jwks` and `secret`: with both, a public key could \
                               be taken for the secret";
                return Err(error("jwt.jwks", message.to_owned()));
            }
            (None, None) => {
                return Err(error("jwt", "expected `jwks` or `secret`".to_owned()));
            }
        };
        let with_secret = config.secret.is_some();
        let fits = |algorithm: &Algorithm| (*algorithm == Algorithm::HS256) == with_secret;
        if let Some(wrong) = config.algorithms.iter().find(|algorithm| !fits(algorithm)) {
            let needs = if with_secret { "`jwks`" } else { "`secret`" };
            return Err(error("jwt.algorithms", format!("{} needs {needs}", wrong.name())));
        }
        let all = Algorithm::ALL.into_iter().filter(fits);
        let algorithms =
            if config.algorithms.is_empty() { all.collect() } else { config.algorithms.clone() };
        let leeway = config.leeway.as_duration();
        if leeway > Duration::from_secs(600) {
            let message = format!("expected at most \"10m\", not \"{}\"", config.leeway);
            return Err(error("jwt.leeway", message));
        }
        let path = |claim: &str| claim.split('.').map(str::to_owned).collect();
        Ok(Self {
            keys,
            expected: Expected {
                algorithms,
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                leeway_s: leeway.as_secs(),
            },
            roles_claim: path(&config.roles_claim),
            tenant_claim: path(&config.tenant_claim),
            id: IDS.fetch_add(1, Ordering::Relaxed),
        })
    }
}

impl Protection for Access {
    fn is_inert(&self) -> bool {
        self.api_keys.is_none() && self.tokens.is_none()
    }

    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        if self.is_inert() || is_preflight(request) || request.target.is_own() {
            return Outcome::NotApplicable;
        }
        match self.judge(request) {
            Ok(()) => Outcome::Allow,
            Err(denial) => Outcome::Deny(denial),
        }
    }
}

fn is_preflight(request: &Request<'_>) -> bool {
    *request.method == Method::OPTIONS
        && request.headers.contains_key(ORIGIN)
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Access {
    fn judge(&self, request: &Request<'_>) -> Result<(), Denial> {
        let row = |matrix| Matrix::find(matrix, request.method, request.target.path());
        let row = self.matrix.as_ref().map(|matrix| (matrix, row(matrix)));
        if let Some((matrix, Some(row))) = row
            && matrix.is_open(row)
        {
            return Ok(());
        }
        let principal = self.identify(request)?;
        let Some((matrix, row)) = row else { return Ok(()) };
        let Some(row) = row else {
            let detail = "this route is open to nobody: the operator has not said who may call it";
            return Err(Denial::new(Code::AccessRouteUnknown, detail));
        };
        if !principal.roles.meets(row.allow) {
            let detail = format!("none of your roles may call {}", row.route);
            return Err(Denial::new(Code::AccessRoleDenied, detail));
        }
        if matrix.isolation && !principal.roles.meets(matrix.across) {
            isolate(&principal, request)?;
        }
        Ok(())
    }

    /// Who calls.
    fn identify(&self, request: &Request<'_>) -> Result<Principal, Denial> {
        if let Some(tokens) = &self.tokens
            && let Some(token) = bearer(request.headers)?
        {
            return self.by_token(tokens, token, request.unix_s);
        }
        if let Some((header, keys)) = &self.api_keys
            && let Some(key) = one(request.headers, header)?
        {
            return by_key(keys, header, key, request.unix_s);
        }
        let wanted = match (&self.tokens, &self.api_keys) {
            (Some(_), Some((header, _))) => {
                format!("a bearer token, or an API key in the header field {header}, is needed")
            }
            (None, Some((header, _))) => {
                format!("an API key is needed in the header field {header}")
            }
            _ => "a bearer token is needed in the header field authorization".to_owned(),
        };
        Err(Denial::new(Code::AccessCredentialsMissing, wanted).challenge("Bearer"))
    }

    fn by_token(&self, tokens: &Tokens, token: &str, now_unix_s: u64) -> Result<Principal, Denial> {
        let Some(keys) = &tokens.keys else {
            let detail = "the keys of the tokens' issuer are not known yet";
            let denial = Denial::new(Code::AccessKeysUnavailable, detail);
            return Err(denial.retry_after(Duration::from_secs(5)));
        };
        let known = remembered(tokens.id, token, || {
            let claims = jwt::verify(token, keys, &tokens.expected)?;
            let principal = self.principal(tokens, &claims.all);
            Ok((Claims { all: Value::Null, ..claims }, principal))
        });
        let fault = |fault: TokenFault| {
            let (code, error) = match fault {
                TokenFault::Expired => (Code::AccessTokenExpired, "Bearer error=\"invalid_token\""),
                _ => (Code::AccessTokenInvalid, "Bearer error=\"invalid_token\""),
            };
            let mut denial = Denial::new(code, fault.to_string()).challenge(error);
            denial.errors = vec![FieldError::new("header:authorization", fault.to_string())];
            denial
        };
        let known = known.map_err(fault)?;
        known.0.at(now_unix_s, &tokens.expected).map_err(fault)?;
        Ok(known.1.clone())
    }

    fn principal(&self, tokens: &Tokens, claims: &Value) -> Principal {
        let claim = |path: &[String]| {
            path.iter().try_fold(claims, |value, name| value.get(name)).unwrap_or(&Value::Null)
        };
        let role = |name: &str| self.matrix.as_ref().and_then(|matrix| matrix.role(name));
        let roles = match claim(&tokens.roles_claim) {
            Value::String(list) => list.split(' ').filter_map(role).collect::<Vec<_>>(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).filter_map(role).collect(),
            _ => Vec::new(),
        };
        Principal {
            roles: roles.into_iter().fold(Roles::NONE, Roles::with),
            tenant: claim(&tokens.tenant_claim)
                .as_str()
                .filter(|tenant| !tenant.is_empty())
                .map(str::to_owned),
        }
    }
}

fn by_key(
    keys: &ApiKeys,
    header: &HeaderName,
    key: &[u8],
    now_unix_s: u64,
) -> Result<Principal, Denial> {
    let denied = |detail: &'static str| {
        let mut denial = Denial::new(Code::AccessKeyUnknown, detail).challenge("Bearer");
        denial.errors = vec![FieldError::new(format!("header:{header}"), detail)];
        denial
    };
    let known = keys.find(key).ok_or_else(|| denied("the API key is none that is known here"))?;
    if known.expires_unix_s.is_some_and(|end| now_unix_s >= end) {
        return Err(denied("the API key has expired"));
    }
    Ok(Principal { roles: known.roles, tenant: known.tenant.clone() })
}

/// The request has to be about the tenant of its credentials.
fn isolate(principal: &Principal, request: &Request<'_>) -> Result<(), Denial> {
    let named = request.client.tenant.as_str();
    let detail = match &principal.tenant {
        Some(_) if named.is_empty() => "the request does not name one tenant",
        Some(own) if own == named => return Ok(()),
        Some(_) => "the request is about another tenant than its credentials are of",
        None => "the credentials are of no tenant",
    };
    Err(Denial::new(Code::AccessTenantMismatch, detail))
}

/// The bearer token; a field that is there twice has two readings.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let Some(value) = one(headers, &AUTHORIZATION)? else { return Ok(None) };
    let Some((scheme, token)) = value.split_at_checked(7) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Ok(None);
    }
    Ok(Some(std::str::from_utf8(token).unwrap_or_default()))
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Denial> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => {
            let detail = format!("the header field {name} is there twice");
            let mut denial = Denial::new(Code::AccessTokenInvalid, detail).challenge("Bearer");
            denial.errors = vec![FieldError::new(format!("header:{name}"), "it is there twice")];
            Err(denial)
        }
        (value, None) => Ok(value.map(|value| value.as_bytes())),
    }
}

/// Tokens that a thread remembers; when it has as many it forgets all of them.
const REMEMBERED_MAX: usize = 4096;

/// A token whose signature is right, and who it is of.
type Verified = Rc<(Claims, Principal)>;

thread_local! {
    /// By rule and SHA-256 of the token. To verify a signature takes as long as ten requests, and
    /// what comes of it does not change as long as the rule is the same; so each thread keeps its
    /// own answers and asks nobody.
    static REMEMBERED: RefCell<HashMap<(u64, [u8; 32]), Verified>> = RefCell::default();
}

fn remembered(
    rule: u64,
    token: &str,
    verify: impl FnOnce() -> Result<(Claims, Principal), TokenFault>,
) -> Result<Verified, TokenFault> {
    let hash = digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("it has 32 bytes");
    let known = REMEMBERED.with_borrow(|known| known.get(&(rule, hash)).cloned());
    if let Some(known) = known {
        return Ok(known);
    }
    let verified = Rc::new(verify()?);
    REMEMBERED.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert((rule, hash), Rc::clone(&verified));
    });
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::jwt::tests::{NOW, Signer};
    use super::*;
    use crate::protections::testing::{Fields, Sample, try_build_with};
    use crate::registry::Protect;
    use crate::source::Sources;

    const MATRIX: &str = r#"
        roles = ["anonymous", "agent", "admin"]
        row = [
            { route = "GET /healthz", allow = ["anonymous"] },
            { route = "/api/{*rest}", allow = ["agent", "admin"] },
            { route = "DELETE /api/{*rest}", allow = ["admin"] },
        ]
        tenant = { isolation = true, across = ["admin"] }
    "#;

    const SECRET: &str = "a shared secret of more than 32 bytes";

    fn sources(signer: &Signer) -> Sources {
        let x = URL_SAFE_NO_PAD.encode(signer.public());
        let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] });
        let hash = digest(&SHA256, b"sw_key");
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = format!(
            "[[key]]\nname = \"ci\"\nsha256 = \"{hash}\"\nroles = [\"agent\"]\ntenant = \"acme\"\n\
             expires = 2027-02-01"
        );
        let mut sources = Sources::default();
        for (name, text) in [
            ("matrix.toml", MATRIX.to_owned()),
            ("jwks.json", jwks.to_string()),
            ("keys.toml", keys),
        ] {
            sources.insert(Source::File(name.into()), Ok(text.into_bytes()));
        }
        for (name, secret) in [("SECRET", SECRET), ("SHORT", "short")] {
            sources.insert(Source::Env(name.to_owned()), Ok(secret.as_bytes().to_vec()));
        }
        sources
    }

    fn try_rule(lines: &str, sources: &Sources) -> Result<Arc<dyn Protection>, String> {
        let protect: Protect =
            toml::from_str(&format!("[access]\n{lines}")).map_err(|e| e.to_string())?;
        try_build_with(&ENTRY, &protect, sources)
    }

    const BOTH: &str = r#"
        matrix = "file:matrix.toml"
        api_keys = { keys = "file:keys.toml" }
        jwt = { jwks = "file:jwks.json", audience = "desk", roles_claim = "realm.roles" }
    "#;

    fn token(signer: &Signer, roles: Value, tenant: &str) -> String {
        let claims = json!({ "aud": "desk", "exp": NOW + 60, "realm": { "roles": roles }, "tenant": tenant });
        format!("Bearer {}", signer.token(r#"{"alg":"EdDSA","kid":"k"}"#, &claims.to_string()))
    }

    #[test]
    fn who_may_call_what() {
        let signer = Signer::ed25519();
        let rule = try_rule(BOTH, &sources(&signer)).unwrap();
        let agent = token(&signer, json!(["agent", "other"]), "acme");
        let words = token(&signer, json!("other agent"), "acme");
        let admin = token(&signer, json!(["admin"]), "globex");
        let nobody = token(&signer, json!([]), "acme");
        let stranger = token(&Signer::ed25519(), json!(["admin"]), "acme");
        let with = |token: &str| token.to_owned();
        type Case<'a> = (&'a str, &'a str, &'a str, Option<(&'a str, String)>, &'a str, &'a str);
        let cases: &[Case<'_>] = &[
            ("open", "GET", "/healthz", None, "", "allow"),
            (
                "open, bad token",
                "GET",
                "/healthz",
                Some(("authorization", with("Bearer x"))),
                "",
                "allow",
            ),
            ("nobody", "GET", "/api/a", None, "", "access-credentials-missing"),
            (
                "another scheme",
                "GET",
                "/api/a",
                Some(("authorization", with("Basic eDp5"))),
                "",
                "access-credentials-missing",
            ),
            ("agent", "GET", "/api/a", Some(("authorization", agent.clone())), "acme", "allow"),
            ("a string of roles", "GET", "/api/a", Some(("authorization", words)), "acme", "allow"),
            (
                "agent deletes",
                "DELETE",
                "/api/a",
                Some(("authorization", agent.clone())),
                "acme",
                "access-role-denied",
            ),
            ("admin deletes", "DELETE", "/api/a", Some(("authorization", admin)), "acme", "allow"),
            (
                "no role",
                "GET",
                "/api/a",
                Some(("authorization", nobody)),
                "acme",
                "access-role-denied",
            ),
            (
                "no row",
                "GET",
                "/other",
                Some(("authorization", agent.clone())),
                "acme",
                "access-route-unknown",
            ),
            (
                "another tenant",
                "GET",
                "/api/a",
                Some(("authorization", agent.clone())),
                "globex",
                "access-tenant-mismatch",
            ),
            (
                "no tenant",
                "GET",
                "/api/a",
                Some(("authorization", agent)),
                "",
                "access-tenant-mismatch",
            ),
            (
                "a token of nobody's tenant",
                "GET",
                "/api/a",
                Some(("authorization", with(&token(&signer, json!(["agent"]), "")))),
                "",
                "access-tenant-mismatch",
            ),
            (
                "another issuer's key",
                "GET",
                "/api/a",
                Some(("authorization", stranger)),
                "acme",
                "access-token-invalid",
            ),
            (
                "no token",
                "GET",
                "/api/a",
                Some(("authorization", with("Bearer "))),
                "acme",
                "access-token-invalid",
            ),
            ("a key", "GET", "/api/a", Some(("x-api-key", with("sw_key"))), "acme", "allow"),
            (
                "another key",
                "GET",
                "/api/a",
                Some(("x-api-key", with("sw_yek"))),
                "acme",
                "access-key-unknown",
            ),
        ];
        for (name, method, path, field, tenant, want) in cases {
            let fields: Vec<_> =
                field.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let sample = Sample::new(method, path, &fields).with_tenant(tenant);
            assert_eq!(sample.verdict(&*rule), *want, "{name}");
            assert_eq!(sample.verdict(&*rule), *want, "{name}, from memory");
        }
    }

    #[test]
    fn what_is_remembered_still_expires() {
        let signer = Signer::ed25519();
        let rule = try_rule(BOTH, &sources(&signer)).unwrap();
        let token = token(&signer, json!(["agent"]), "acme");
        let mut sample =
            Sample::new("GET", "/api/a", &[("authorization", &token)]).with_tenant("acme");
        for (unix_s, want) in
            [(NOW, "allow"), (NOW + 89, "allow"), (NOW + 90, "access-token-expired")]
        {
            sample.unix_s = unix_s;
            assert_eq!(sample.verdict(&*rule), want, "{unix_s}");
        }
        let mut key = Sample::new("GET", "/api/a", &[("x-api-key", "sw_key")]).with_tenant("acme");
        key.unix_s = 1_801_440_000;
        assert_eq!(key.verdict(&*rule), "access-key-unknown", "it has expired");
    }

    #[test]
    fn fields_with_two_readings_and_preflights() {
        let signer = Signer::ed25519();
        let rule = try_rule(BOTH, &sources(&signer)).unwrap();
        let token = token(&signer, json!(["agent"]), "acme");
        let twice: Fields<'_> = &[("authorization", &token), ("authorization", &token)];
        let sample = Sample::new("GET", "/api/a", twice).with_tenant("acme");
        assert_eq!(sample.verdict(&*rule), "access-token-invalid");
        let preflight: Fields<'_> =
            &[("origin", "https://a.example"), ("access-control-request-method", "PUT")];
        assert_eq!(Sample::new("OPTIONS", "/api/a", preflight).verdict(&*rule), "n/a");
        let own = Sample::new("GET", "/.seaworthy/deprecations", &[]);
        assert_eq!(own.verdict(&*rule), "n/a");
        let options = Sample::new("OPTIONS", "/api/a", &[]).verdict(&*rule);
        assert_eq!(options, "access-credentials-missing");
    }

    #[test]
    fn without_a_matrix_valid_credentials_are_enough() {
        let signer = Signer::Secret(SECRET.as_bytes().to_vec());
        let rule =
            try_rule("jwt = { secret = \"env:SECRET\" }", &sources(&Signer::ed25519())).unwrap();
        let claims = json!({ "exp": NOW + 60 }).to_string();
        let token = format!("Bearer {}", signer.token(r#"{"alg":"HS256"}"#, &claims));
        let sample = Sample::new("GET", "/any", &[("authorization", &token)]);
        assert_eq!(sample.verdict(&*rule), "allow");
        assert_eq!(Sample::new("GET", "/any", &[]).verdict(&*rule), "access-credentials-missing");
        let inert = try_rule("", &Sources::default()).unwrap();
        assert_eq!(sample.verdict(&*inert), "n/a");
    }

    #[test]
    fn a_denial_shows_no_credentials() {
        let signer = Signer::ed25519();
        let rule = try_rule(BOTH, &sources(&signer)).unwrap();
        for (name, value) in [("x-api-key", "sw_hunter2"), ("authorization", "Bearer hunter2.a.b")]
        {
            let denial = Sample::new("GET", "/api/a", &[(name, value)]).denial(&*rule);
            assert!(!format!("{denial:?}").contains("hunter2"), "{denial:?}");
            assert!(denial.header.is_some());
        }
    }

    #[test]
    fn settings_that_would_not_protect_are_refused() {
        let sources = sources(&Signer::ed25519());
        for (lines, words) in [
            ("matrix = \"file:matrix.toml\"", "`matrix` needs credentials"),
            ("jwt = {}", "jwt: expected `jwks` or `secret`"),
            (
                "jwt = { jwks = \"file:jwks.json\", secret = \"env:SECRET\" }",
                "jwt.jwks: expected one of",
            ),
            (
                "jwt = { jwks = \"file:jwks.json\", algorithms = [\"HS256\"] }",
                "HS256 needs `secret`",
            ),
            ("jwt = { secret = \"env:SECRET\", algorithms = [\"RS256\"] }", "RS256 needs `jwks`"),
            ("jwt = { jwks = \"file:jwks.json\", algorithms = [\"none\"] }", "unknown variant"),
            ("jwt = { secret = \"env:SHORT\" }", "env:SHORT has 5 bytes"),
            ("jwt = { jwks = \"file:keys.toml\" }", "file:keys.toml is no key set"),
            ("jwt = { jwks = \"file:gone.json\" }", "file:gone.json was not read"),
            ("jwt = { secret = \"env:SECRET\", leeway = \"1h\" }", "expected at most \"10m\""),
            ("api_keys = { keys = \"file:jwks.json\" }", "api_keys.keys: file:jwks.json: "),
            ("api_keys = { keys = \"file:keys.toml\", header = \"a b\" }", "api_keys.header: "),
        ] {
            let said = try_rule(lines, &sources).err().unwrap();
            assert!(said.contains(words), "{lines}: {said}");
        }
    }
}
