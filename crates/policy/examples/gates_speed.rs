//! How long it takes to keep the gates of many rules up to date.
//!
//! `cargo run --release --example gates_speed -p seaworthy-policy`
//!
//! A thousand rules, each with up to a week of minutes of sixteen clients. What is timed: taking up
//! one more minute of every rule and judging all of its gates again. A rule in `warn` has five gates,
//! one that enforces eight. An hour in most of them wait and forecast how long; a week in most pass.

use std::time::{Duration, Instant};

use seaworthy_policy::gates::minute::{
    ClientMinute, Minute, Name, RuleMinute, Standing, TickLength,
};
use seaworthy_policy::gates::window::{Start, Window};
use seaworthy_policy::gates::{GatesConfig, coverage, judge};
use seaworthy_policy::mode::Share;
use seaworthy_policy::record::RouteId;
use seaworthy_policy::statistics::Proportion;

const RULES: usize = 1000;
const MINUTES: i64 = 7 * 1440;
const FIRST: Minute = Minute(29_000_000);
const CLIENTS: u64 = 16;
const PAIRS: u64 = 48;

fn main() {
    let config = GatesConfig::default();
    let names: Vec<Name> = (0..200)
        .map(|client| Name::new(&format!("client-{client:03}")).expect("a plain name"))
        .collect();
    let mut random = Random(1);
    println!("{RULES} rules x {MINUTES} minutes, {CLIENTS} clients a minute, {PAIRS} pairs");
    for (what, step, minutes) in [
        ("in warn, an hour in", 0, 60),
        ("in warn, a week in", 0, MINUTES),
        ("at 10 %, an hour in", 1000, 60),
        ("at 10 %, a week in", 1000, MINUTES),
    ] {
        let mut rules: Vec<Rule> = (0..RULES).map(|rule| Rule::new(rule, step)).collect();
        let begun = Instant::now();
        for minute in 0..minutes {
            for rule in &mut rules {
                rule.observe(Minute(FIRST.0 + minute), &names, &mut random);
            }
        }
        let a_minute = begun.elapsed() / u32::try_from(minutes).expect("a week");
        let now = Minute(FIRST.0 + minutes);
        let mut looks = Vec::new();
        let mut verdicts = [0usize; 5];
        for look in 0..20 {
            let now = Minute(now.0 + look);
            // What the clients sent is made up outside of the time that is taken.
            let minutes: Vec<_> =
                rules.iter().map(|rule| rule.clients(&names, &mut random)).collect();
            let begun = Instant::now();
            verdicts = [0; 5];
            for (rule, clients) in rules.iter_mut().zip(&minutes) {
                rule.take_up(now, clients);
                let coverage = rule.pairs.input(
                    |client| names.get(client as usize).copied(),
                    |route| names.get(usize::from(route.0)).copied(),
                );
                for reading in judge(&config, rule.window.inputs(Minute(now.0 + 1), coverage)) {
                    verdicts[reading.verdict as usize] += 1;
                }
            }
            looks.push(begun.elapsed());
        }
        looks.sort_unstable();
        let stored: Vec<usize> = rules
            .iter_mut()
            .map(|rule| {
                let inputs = rule.window.inputs(now, coverage::Input::default());
                serde_json::to_vec(inputs).expect("inputs are plain values").len()
            })
            .collect();
        let [pass, fail, inconclusive, no_data, stale] = verdicts;
        println!("\n{what}");
        println!("  a minute of all rules taken up   {}", millis(a_minute));
        println!(
            "  taken up and judged again        {} median, {} longest of {}",
            millis(looks[looks.len() / 2]),
            millis(looks[looks.len() - 1]),
            looks.len()
        );
        println!(
            "  verdicts                         {pass} pass, {fail} fail, {inconclusive} \
             inconclusive, {no_data} no data, {stale} stale"
        );
        println!(
            "  inputs of a receipt              {} bytes on average, {} at most",
            stored.iter().sum::<usize>() / stored.len(),
            stored.iter().max().expect("there are rules")
        );
    }
}

fn millis(duration: Duration) -> String {
    format!("{:8.2} ms", duration.as_secs_f64() * 1000.0)
}

struct Rule {
    window: Window,
    pairs: coverage::Pairs,
    /// Harmed requests in 100 000.
    harm: u64,
    step: Share,
}

impl Rule {
    fn new(number: usize, basis_points: u16) -> Self {
        let step = Share::from_basis_points(basis_points).expect("at most 10 000");
        let window = Window::begin(Start {
            tick: TickLength::MINUTE,
            first: FIRST,
            step,
            attempt: 1 + number as u32 % 3,
            waivers: Vec::new(),
            predicted: Proportion::new(100, 50_000).expect("fewer hits than trials"),
            control_before: Proportion::NONE,
        })
        .expect("no waivers");
        // From harmless to twice what the gates allow.
        Self { window, pairs: coverage::Pairs::default(), harm: number as u64, step }
    }

    fn clients(&self, names: &[Name], random: &mut Random) -> Vec<ClientMinute> {
        let first = random.next() % (names.len() as u64 - CLIENTS);
        (first..first + CLIENTS)
            .map(|client| {
                let drawn = random.next();
                let total = 1 + drawn % 6;
                // One hit at most: a client with more is rare at these chances.
                let hits = u64::from((drawn >> 8) % 100_000 < self.harm * total);
                let is_enforced =
                    self.step != Share::from_basis_points(0).expect("0") && client % 10 == 0;
                ClientMinute {
                    client: names[client as usize],
                    standing: if is_enforced { Standing::Enforced } else { Standing::Control },
                    judged: Proportion::new(hits, total).expect("fewer hits than trials"),
                }
            })
            .collect()
    }

    fn observe(&mut self, minute: Minute, names: &[Name], random: &mut Random) {
        let clients = self.clients(names, random);
        self.take_up(minute, &clients);
    }

    fn take_up(&mut self, minute: Minute, clients: &[ClientMinute]) {
        let enforced = clients.iter().filter(|part| part.standing == Standing::Enforced);
        let enforced = enforced.fold(Proportion::NONE, |sum, part| sum.and(part.judged));
        let all = clients.iter().fold(Proportion::NONE, |sum, part| sum.and(part.judged));
        let none = |counts: Proportion| Proportion::NONE.and_clean(counts.total());
        for (place, part) in clients.iter().enumerate() {
            let pair = (minute.0 as u64 + place as u64) % PAIRS;
            let requests = u32::try_from(part.judged.total()).unwrap_or(u32::MAX);
            self.pairs.observe(minute.0 / 1440, pair, RouteId((pair % 12) as u16), requests, true);
        }
        self.window
            .observe(&RuleMinute {
                minute,
                clients,
                other: Proportion::NONE.and_clean(10),
                checks: none(all),
                enforced_5xx: none(enforced),
                control_5xx: none(all.without(enforced)),
                denied: none(enforced),
                dropped: 0,
                is_red: false,
            })
            .expect("minutes come in order");
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
