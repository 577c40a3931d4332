//! What an empty help desk is filled with, so that every list has something to show.

use rusqlite::{Transaction, params};

use crate::random::Random;

const TENANTS: [&str; 6] = ["public", "acme", "globex", "initech", "umbrella", "wonka"];

const COMPLAINTS: [(&str, &str, &str); 8] = [
    ("billing", "Charged twice in May", "The same invoice was collected on the 3rd and the 5th."),
    ("billing", "VAT missing", "Our accountant needs an invoice that shows the VAT."),
    ("delivery", "Parcel left in the rain", "The box was soaked and the manual is unreadable."),
    ("delivery", "Three weeks late", "The tracking page has said \"tomorrow\" since the 2nd."),
    ("quality", "Hinge broke", "The left hinge broke on the second day."),
    ("quality", "Wrong colour", "I ordered slate; this is plainly green."),
    ("account", "Cannot change address", "The form forgets the house number."),
    ("other", "Praise", "Not a complaint: the person on the phone was lovely."),
];

const MESSAGES: [&str; 4] = [
    "Could you look at the delivery cases first?",
    "The customer called again; I promised an answer by noon.",
    "Closed as a duplicate.",
    "Refund approved.",
];

const COMPANIES: [(&str, &str, &str, u32); 8] = [
    ("anvil-works", "Anvil Works", "seed", 6),
    ("brightwater", "Brightwater", "series-a", 31),
    ("cobalt-labs", "Cobalt Labs", "series-a", 24),
    ("dry-dock", "Dry Dock", "pre-seed", 2),
    ("evenkeel", "Evenkeel", "series-b", 120),
    ("fairlead", "Fairlead", "series-a", 45),
    ("gangway", "Gangway", "public", 2400),
    ("halyard", "Halyard", "series-c", 610),
];

/// The same examples for every tenant, from a fixed seed.
pub(super) fn fill(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut random = Random::new(0, 0);
    for tenant in TENANTS {
        for round in 0..3 {
            for (category, subject, body) in COMPLAINTS {
                let status = *random.pick(&["open", "open", "pending", "resolved", "closed"]);
                transaction
                    .prepare_cached(
                        "INSERT INTO complaints (tenant, subject, body, category, status)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![tenant, subject, body, category, status])?;
                if round == 0 && status != "open" {
                    transaction
                        .prepare_cached(
                            "INSERT INTO notes (complaint, author, text)
                             VALUES (?1, 'mara', 'Called the customer back.')",
                        )?
                        .execute([transaction.last_insert_rowid()])?;
                }
            }
        }
        for text in MESSAGES {
            transaction.execute(
                "INSERT INTO messages (tenant, sender, recipient, text)
                 VALUES (?1, 'mara', 'jonas', ?2)",
                params![tenant, text],
            )?;
        }
        for (id, name, stage, employees) in COMPANIES {
            transaction.execute(
                "INSERT INTO companies (tenant, id, name, stage, employees)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![tenant, id, name, stage, employees],
            )?;
        }
        transaction.execute(
            "INSERT INTO simulations (tenant, name, agents, size, wait_minutes_mean)
             VALUES (?1, 'a usual Monday', 3, 2, 1.5)",
            [tenant],
        )?;
        transaction.execute(
            "INSERT INTO traces (tenant, name, steps, bytes, duration_ms)
             VALUES (?1, 'refund decision', 12, 4096, 830)",
            [tenant],
        )?;
    }
    Ok(())
}
