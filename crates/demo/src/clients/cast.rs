//! Who the clients are, and how the requests are shared out among them.

use std::net::SocketAddr;
use std::time::Duration;

use super::batch::Batch;
use super::browser::Browser;
use super::carrier::Carrier;
use super::probe::Probe;
use super::program::{Credential, Program};
use super::script::{Caller, Script};
use super::{ClientReport, Manners, StatusClasses};

/// What one well-behaved person or program sends at most, in requests per second. One request
/// every two seconds is a busy person at a desk, and well below any sensible limit.
const PERSON_RATE: f64 = 0.5;

/// A client has as many persons as its share of the rate needs, up to this many; then they hurry.
const PERSONS_MAX: u16 = 64;

/// How often the batch runs.
pub(super) const BURST_EVERY: Duration = Duration::from_secs(3);

/// One client. Its lanes are connections on which one request follows the other.
pub(super) struct Member {
    name: &'static str,
    tenant: &'static str,
    pub(super) manners: Manners,
    /// Requests per second, of all its lanes.
    pub(super) rate: f64,
    pub(super) lanes: u16,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Browser,
    Program(fn(String) -> Credential),
    Carrier,
    Batch,
    Probe,
}

type Entry = (&'static str, &'static str, Manners, f64, Kind);

/// Name, tenant, manners, share of the rate, kind.
const CAST: [Entry; 8] = [
    ("acme-desk", "acme", Manners::Good, 0.15, Kind::Browser),
    ("acme-sync", "acme", Manners::Good, 0.12, Kind::Program(Credential::Bearer)),
    ("globex-app", "globex", Manners::Good, 0.08, Kind::Program(Credential::ApiKey)),
    ("globex-carrier", "globex", Manners::Good, 0.05, Kind::Carrier),
    ("initech-desk", "initech", Manners::Good, 0.1, Kind::Browser),
    ("initech-bot", "initech", Manners::Good, 0.1, Kind::Program(Credential::Bearer)),
    ("wonka-batch", "wonka", Manners::Sloppy, 0.25, Kind::Batch),
    ("umbrella-probe", "umbrella", Manners::Hostile, 0.15, Kind::Probe),
];

/// The clients for `rate` requests per second in all.
pub(super) fn members(rate: f64) -> Vec<Member> {
    let member = |(name, tenant, manners, share, kind): Entry| {
        let rate = rate * share;
        let lanes = match manners {
            // A float becomes an integer by saturation: this is a bound, too.
            Manners::Good => ((rate / PERSON_RATE).ceil() as u16).clamp(1, PERSONS_MAX),
            Manners::Sloppy => 4,
            Manners::Hostile => 2,
        };
        Member { name, tenant, manners, rate, lanes, kind }
    };
    CAST.map(member).into()
}

impl Member {
    pub(super) fn report(&self) -> ClientReport {
        ClientReport {
            name: self.name,
            tenant: self.tenant,
            manners: self.manners,
            sent: 0,
            by_status_class: StatusClasses::default(),
        }
    }

    /// What its lane `number` sends.
    pub(super) fn script(&self, gateway: SocketAddr, number: u16) -> Box<dyn Script> {
        let caller = Caller { gateway, name: self.name, tenant: self.tenant };
        match self.kind {
            Kind::Browser => Box::new(Browser::new(caller)),
            Kind::Program(credential) => {
                let secret = format!("{}-{number:02}", self.name);
                Box::new(Program::new(caller, credential(secret)))
            }
            Kind::Carrier => Box::new(Carrier::new(caller)),
            Kind::Batch => Box::new(Batch::new(caller)),
            Kind::Probe => Box::new(Probe::new(caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_tenants_share_the_whole_rate() {
        for rate in [0.1, 20.0, 5000.0] {
            let members = members(rate);
            let sum: f64 = members.iter().map(|member| member.rate).sum();
            assert!((sum - rate).abs() < rate * 1e-9, "{sum} of {rate}");
            let mut tenants: Vec<_> = members.iter().map(|member| member.tenant).collect();
            tenants.dedup();
            assert_eq!(tenants, ["acme", "globex", "initech", "wonka", "umbrella"]);
            for count in [Manners::Sloppy, Manners::Hostile] {
                assert_eq!(members.iter().filter(|member| member.manners == count).count(), 1);
            }
        }
    }

    #[test]
    fn nobody_good_hurries_below_the_cap() {
        for rate in [1.0, 20.0, 200.0] {
            for member in members(rate).iter().filter(|member| member.manners == Manners::Good) {
                assert!(member.rate / f64::from(member.lanes) <= PERSON_RATE, "{}", member.name);
            }
        }
    }
}
