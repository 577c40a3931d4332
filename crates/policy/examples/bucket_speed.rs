//! What it costs to find whether a client is in a rule's share.
//!
//! ```text
//! cargo run --release -p seaworthy-policy --example bucket_speed
//! ```

use std::hint::black_box;
use std::time::Instant;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::mode::{Buckets, Share};

const ROUNDS: u64 = 5_000_000;

fn main() {
    let buckets = Buckets::new(&[7; 16]);
    let tenth = Share::from_basis_points(1000).expect("less than all");
    for rule in ["csrf", "rate_limit@POST /api/traces"] {
        let buckets = buckets.of_rule(rule);
        let began = Instant::now();
        let mut inside = 0_u64;
        for n in 0..ROUNDS {
            let client = ClientKey::Bearer(black_box(n)).to_bytes();
            inside += u64::from(black_box(&buckets).contains(&client, tenth));
        }
        let each = began.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64;
        let share = inside as f64 / ROUNDS as f64 * 100.0;
        println!("{rule:30} {each:6.1} ns a client, {share:.2} % of them inside");
    }
}
