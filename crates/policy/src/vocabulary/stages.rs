//! The stages of venture funding, and what they are usually called.
//!
//! Only spellings that everybody takes for one stage are here. Left out, because two readers would
//! take them for two: `angel` and `friends and family` (before seed for some, part of it for
//! others), `bridge` (between any two), `early stage` (seed to series B), `mid-stage`, `expansion`
//! and `scale-up` (series B to growth), `series D` and later letters, `pre-IPO` and `mezzanine`
//! (growth or late stage). An operator who knows what their clients mean adds them as aliases.
//! What differs in case, spaces, dashes and underscores alone needs no alias.

pub(super) const VALUES: &[(&str, &[&str])] = &[
    ("pre-seed", &["pre-seed round", "pre-seed stage", "pre-seed funding"]),
    ("seed", &["seed round", "seed stage", "seed funding", "seed capital"]),
    ("series-a", &["a", "a round", "round a", "series a round", "series a funding"]),
    ("series-b", &["b", "b round", "round b", "series b round", "series b funding"]),
    ("series-c", &["c", "c round", "round c", "series c round", "series c funding"]),
    ("growth", &["growth stage", "growth round", "growth equity", "growth capital"]),
    ("late-stage", &["late", "later", "later stage", "late stage round", "late stage venture"]),
];
