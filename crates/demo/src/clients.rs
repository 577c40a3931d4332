//! The help desk's synthetic clients: programs and people of five tenants.
//!
//! Most of them behave: programs with a token or an API key, agents with a browser. One is
//! sloppy: a nightly batch that knows no pacing, no `Sec-Fetch-*` and no size limit. One is
//! hostile. All of them speak well-formed HTTP/1.1, hold a few keep-alive connections, and
//! together send as many requests per second as asked for, never more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::random::Random;
pub use carrier::WEBHOOK_SECRET;
use connection::Line;
use lane::{Lane, Pace};

mod batch;
mod browser;
mod carrier;
mod cast;
pub(crate) mod connection;
mod errands;
mod lane;
mod probe;
mod program;
mod script;

/// The rates that are kept, in requests per second; what is asked for is brought within.
const RATE_MIN: f64 = 0.1;
const RATE_MAX: f64 = 5000.0;

/// What the clients do.
#[derive(Clone, Debug)]
pub struct ClientsConfig {
    /// Where they send their requests: a loopback address, or the unspecified one, which stands
    /// for loopback.
    pub gateway: SocketAddr,
    /// The same seed makes the same requests.
    pub seed: u64,
    /// Requests per second of all clients together, from 0.1 to 5000.
    pub rate: f64,
}

/// Clients stay on this machine: an address elsewhere is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("synthetic clients talk to a loopback address only, not to {0}")]
pub struct NotLoopback(pub SocketAddr);

/// Running clients. Dropped, they stop.
#[derive(Debug)]
pub struct Clients {
    lanes: JoinSet<()>,
    report: watch::Sender<ClientsReport>,
}

/// What was sent and answered. A request counts when its answer is complete or cannot come any
/// more; those that a stop interrupts do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientsReport {
    pub sent: u64,
    pub by_status_class: StatusClasses,
    pub by_client: Vec<ClientReport>,
}

/// One client's part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientReport {
    pub name: &'static str,
    pub tenant: &'static str,
    pub manners: Manners,
    pub sent: u64,
    pub by_status_class: StatusClasses,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manners {
    Good,
    Sloppy,
    Hostile,
}

/// Counts of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusClasses {
    #[serde(rename = "2xx")]
    pub success: u64,
    #[serde(rename = "3xx")]
    pub redirect: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// No connection, no answer within 30 seconds, or an answer that broke off.
    pub failed: u64,
}

impl Clients {
    /// Starts the clients on the current tokio runtime.
    pub fn start(config: ClientsConfig) -> Result<Self, NotLoopback> {
        let gateway = loopback(config.gateway)?;
        let rate = if config.rate.is_nan() { RATE_MIN } else { config.rate };
        let rate = rate.clamp(RATE_MIN, RATE_MAX);
        let members = cast::members(rate);
        let by_client = members.iter().map(cast::Member::report).collect();
        let (report, _) = watch::channel(ClientsReport { by_client, ..ClientsReport::default() });

        let mut lanes = JoinSet::new();
        for (client, member) in members.iter().enumerate() {
            for number in 0..member.lanes {
                let stream = (client as u64) << 32 | u64::from(number);
                let lane = Lane {
                    line: Line::new(gateway, source(gateway, client, member, number)),
                    pace: pace(member, number),
                    patient: member.manners == Manners::Good,
                    script: member.script(gateway, number),
                    random: Random::new(config.seed, stream),
                    client,
                    report: report.clone(),
                };
                lanes.spawn(lane.run());
            }
        }
        Ok(Self { lanes, report })
    }

    /// What has been sent so far.
    pub fn report(&self) -> ClientsReport {
        self.report.borrow().clone()
    }

    /// Waits until `count` requests have been sent and answered.
    pub async fn sent(&self, count: u64) {
        let mut report = self.report.subscribe();
        let reached = report.wait_for(|report| report.sent >= count).await;
        reached.expect("self has the sender and is borrowed for as long");
    }

    /// Ends all clients at once, whatever they are waiting for.
    pub async fn stop(self) -> ClientsReport {
        let Self { mut lanes, report } = self;
        lanes.shutdown().await;
        report.borrow().clone()
    }
}

fn loopback(gateway: SocketAddr) -> Result<SocketAddr, NotLoopback> {
    match gateway.ip() {
        ip if ip.is_loopback() => Ok(gateway),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), gateway.port()))
        }
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            Ok(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), gateway.port()))
        }
        _ => Err(NotLoopback(gateway)),
    }
}

/// An address of its own for every well-behaved person and program, so that a limit by address
/// sees them apart; one for all of a sloppy or hostile client's connections. IPv6 has but one
/// loopback address.
fn source(
    gateway: SocketAddr,
    client: usize,
    member: &cast::Member,
    number: u16,
) -> Option<Ipv4Addr> {
    let person = match member.manners {
        Manners::Good => number,
        Manners::Sloppy | Manners::Hostile => 0,
    };
    gateway.is_ipv4().then(|| Ipv4Addr::new(127, 10 + client as u8, 1 + person as u8, 1))
}

fn pace(member: &cast::Member, number: u16) -> Pace {
    let interval = Duration::from_secs_f64(f64::from(member.lanes) / member.rate);
    match member.manners {
        // A batch waits for its hour and then sends all it has.
        Manners::Sloppy => Pace::bursts(interval, cast::BURST_EVERY),
        Manners::Good | Manners::Hostile => {
            Pace::even(interval, interval * u32::from(number) / u32::from(member.lanes))
        }
    }
}

impl ClientsReport {
    /// Counts one request of the client at `position`, with the status that answered it.
    fn count(&mut self, position: usize, status: Option<StatusCode>) {
        let client = &mut self.by_client[position];
        self.sent += 1;
        client.sent += 1;
        for classes in [&mut self.by_status_class, &mut client.by_status_class] {
            match status.map(|status| status.as_u16() / 100) {
                Some(2) => classes.success += 1,
                Some(3) => classes.redirect += 1,
                Some(4) => classes.client_error += 1,
                Some(5) => classes.server_error += 1,
                _ => classes.failed += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Service, ServiceConfig};

    async fn service(faults: &[&str]) -> Service {
        let faults = faults.iter().map(|text| text.parse::<Fault>().unwrap()).collect();
        Service::start(ServiceConfig { faults, ..ServiceConfig::default() }).await.unwrap()
    }

    fn clients(gateway: SocketAddr) -> Clients {
        Clients::start(ClientsConfig { gateway, seed: 7, rate: 400.0 }).unwrap()
    }

    #[tokio::test]
    async fn every_client_is_served_and_only_the_hostile_one_is_refused_much() {
        let service = service(&[]).await;
        let clients = clients(service.addr());
        let mut report = clients.report.subscribe();
        report
            .wait_for(|report| report.by_client.iter().all(|client| client.sent >= 30))
            .await
            .unwrap();
        let report = clients.stop().await;
        service.shutdown().await;

        let total =
            |count: fn(&ClientReport) -> u64| report.by_client.iter().map(count).sum::<u64>();
        assert_eq!(report.sent, total(|client| client.sent));
        assert_eq!(report.by_status_class.success, total(|c| c.by_status_class.success));
        for client in &report.by_client {
            let classes = client.by_status_class;
            assert_eq!(classes.server_error, 0, "{client:?}");
            assert_eq!(classes.failed, 0, "{client:?}");
            match client.manners {
                // A complaint can be gone when its client comes back to it, and a report of
                // the sort that browsers send has no taker here.
                Manners::Good => assert!(classes.client_error * 10 <= client.sent, "{client:?}"),
                // The service knows one spelling of each stage.
                Manners::Sloppy => assert!(classes.client_error * 4 <= client.sent, "{client:?}"),
                Manners::Hostile => assert!(classes.client_error > 0, "{client:?}"),
            }
        }
    }

    #[tokio::test]
    async fn clients_go_on_when_connections_are_dropped_and_answers_fail() {
        let service = service(&["drop@20%", "status=503@20%"]).await;
        let clients = clients(service.addr());
        let mut report = clients.report.subscribe();
        report
            .wait_for(|report| {
                let StatusClasses { success, server_error, failed, .. } = report.by_status_class;
                success >= 50 && server_error >= 10 && failed >= 10
            })
            .await
            .unwrap();
        clients.stop().await;
        service.shutdown().await;
    }

    #[tokio::test]
    async fn clients_stop_while_nothing_answers() {
        let service = service(&["latency=600s"]).await;
        let clients = clients(service.addr());
        let report = clients.stop().await;
        assert_eq!(report.sent, 0);
        drop(service);
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_counted_and_not_hammered() {
        let addr = {
            let service = service(&[]).await;
            let addr = service.addr();
            service.shutdown().await;
            addr
        };
        let clients = clients(addr);
        clients.sent(20).await;
        let report = clients.stop().await;
        assert_eq!(report.by_status_class.failed, report.sent);
    }

    #[tokio::test]
    async fn only_loopback_is_talked_to() {
        let cases = [
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("127.8.0.1:80", Some("127.8.0.1:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("0.0.0.0:80", Some("127.0.0.1:80")),
            ("[::]:80", Some("[::1]:80")),
            ("10.0.0.1:80", None),
            ("192.0.2.1:80", None),
            ("[2001:db8::1]:80", None),
        ];
        for (asked, used) in cases {
            let asked: SocketAddr = asked.parse().unwrap();
            let expected = used.map_or(Err(NotLoopback(asked)), |used| Ok(used.parse().unwrap()));
            assert_eq!(loopback(asked), expected);
        }
        let config = ClientsConfig { gateway: ([10, 0, 0, 1], 80).into(), seed: 0, rate: 1.0 };
        assert_eq!(Clients::start(config.clone()).unwrap_err(), NotLoopback(config.gateway));
    }

    #[test]
    fn a_report_is_written_with_the_classes_by_their_usual_names() {
        let by_client = cast::members(1.0).iter().map(cast::Member::report).collect();
        let mut report = ClientsReport { by_client, ..ClientsReport::default() };
        report.count(0, Some(StatusCode::CREATED));
        report.count(0, None);
        let written = serde_json::to_value(&report).unwrap();
        let classes = serde_json::json!({ "2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0, "failed": 1 });
        assert_eq!(written["by_status_class"], classes);
        assert_eq!(written["by_client"][0]["by_status_class"], classes);
        assert_eq!(written["by_client"][0]["manners"], "good");
        assert_eq!(written["sent"], 2);
    }
}
