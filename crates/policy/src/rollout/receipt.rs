//! The receipt of a move: all that it was decided by, so that anyone can decide it again.
//!
//! 1. A receipt holds the settings, what the gates were told, what they said, and what happened to
//!    the rule because of it. It needs no database to be checked.
//! 2. [`Receipt::verify`] asks the gates again, sets off the alarm again and makes the move again:
//!    every number, sentence and state must come out as it is written.
//! 3. What no gate depends on (a time, a name) is covered by the digest, which the audit log has,
//!    too. A receipt that somebody wrote anew is therefore not the one of the log.

use serde::{Deserialize, Serialize};

use super::{Event, PolicyHash, Proposal, RolloutConfig, RuleState, Weighed, propose};
use crate::evidence::Lane;
use crate::gates::alarm::{self, Alarm};
use crate::gates::{self, GatesConfig, Inputs, Reading, Verdict};
use crate::mode::ModeSetting;

/// The version of this form.
pub const RECEIPT_VERSION: u32 = 2;

/// Bytes of a receipt that is read.
pub const RECEIPT_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub v: u32,
    /// The program that decided.
    pub program: String,
    pub rule: String,
    pub lane: Lane,
    /// Who moved it: `gateway`, `operator:<name>`, `alert:<its alertname>`.
    pub actor: String,
    pub at_unix_ms: i64,
    pub event: Event,
    pub before: RuleState,
    pub after: RuleState,
    pub setting: ModeSetting,
    pub rollout: RolloutConfig,
    pub gates: GatesConfig,
    /// What the gates were told; `None` where nobody asked them.
    pub inputs: Option<Inputs>,
    pub readings: Vec<Reading>,
    /// What set off a fall.
    pub alarm: Option<Alarm>,
    /// What this attempt may spend of `alpha`, and had: the chance that a rule which harms as much
    /// as the gates allow gets past them.
    pub alpha_spent: Option<f64>,
    /// SHA-256 of the clients' evidence, in hexadecimal.
    pub clients_digest: Option<String>,
    /// SHA-256 of all the rest, in hexadecimal.
    pub digest: String,
}

/// What is wrong with a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    #[error(
        "it has the form {found}, and this program knows {RECEIPT_VERSION}: the program that is \
         named in it can verify it"
    )]
    Version { found: u32 },
    #[error("it is no receipt: {0}")]
    Unreadable(String),
    #[error("it has more than {RECEIPT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not as it was written: a number, or the order of its fields, is another")]
    Rewritten,
    #[error("its digest is {written}, and that of its content is {found}: it was changed")]
    Digest { written: String, found: String },
    #[error("the {gate} gate says something else of what it was told: {found}")]
    Reading { gate: String, found: String },
    #[error("the gates that were asked are not those that apply")]
    Gates,
    #[error("the clients' evidence is not that of its digest")]
    Clients,
    #[error("attempt {attempt} may spend {right}, not {written}")]
    Alpha { attempt: u32, right: String, written: String },
    #[error("not every gate passed, and the rule was promoted")]
    NotPassed,
    #[error("the rollout would not have done that: {0}")]
    NotProposed(String),
    #[error("its numbers are those of another alarm: {0}")]
    Alarm(String),
    #[error("what happened leads to another state than is written")]
    State,
    #[error("the evidence is of attempt {of} and the move of attempt {at}")]
    Attempt { of: u32, at: u32 },
}

impl Receipt {
    /// Fills in what follows from the rest.
    #[must_use]
    pub fn seal(mut self) -> Self {
        self.clients_digest = self.inputs.as_ref().map(clients_digest);
        self.alpha_spent = self
            .inputs
            .as_ref()
            .map(|inputs| gates::level(self.gates.alpha.share(), inputs.attempt));
        self.digest = self.digest_of_content();
        self
    }

    /// Reads a receipt; says nothing of whether it is right.
    pub fn read(text: &[u8]) -> Result<Self, ReceiptFault> {
        if text.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptFault::TooLarge);
        }
        let receipt: Self = serde_json::from_slice(text).map_err(|error| match form(text) {
            // Of another form no more can be said than that.
            Some(found) if found != RECEIPT_VERSION => ReceiptFault::Version { found },
            _ => ReceiptFault::Unreadable(error.to_string()),
        })?;
        // Two texts can be one number, and only one of them is what was written.
        let written = serde_json::to_string(&receipt).expect("a receipt is plain data");
        if without_spaces(text).eq(written.bytes()) {
            Ok(receipt)
        } else {
            Err(ReceiptFault::Rewritten)
        }
    }

    /// Decides it again. Every fault is told of.
    pub fn verify(&self) -> Result<(), Vec<ReceiptFault>> {
        let mut faults = Vec::new();
        if self.v != RECEIPT_VERSION {
            return Err(vec![ReceiptFault::Version { found: self.v }]);
        }
        let found = self.digest_of_content();
        if found != self.digest {
            faults.push(ReceiptFault::Digest { written: self.digest.clone(), found });
        }
        self.verify_gates(&mut faults);
        self.verify_alarm(&mut faults);
        self.verify_move(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn verify_gates(&self, faults: &mut Vec<ReceiptFault>) {
        let Some(inputs) = &self.inputs else {
            if !self.readings.is_empty() {
                faults.push(ReceiptFault::Gates);
            }
            return;
        };
        let readings = gates::judge(&self.gates, inputs);
        if readings.len() != self.readings.len() {
            faults.push(ReceiptFault::Gates);
        }
        for (found, written) in readings.iter().zip(&self.readings) {
            if found != written {
                let gate = written.gate.word().to_owned();
                faults.push(ReceiptFault::Reading { gate, found: found.sentence.clone() });
            }
        }
        if self.clients_digest.as_deref() != Some(&clients_digest(inputs)) {
            faults.push(ReceiptFault::Clients);
        }
        let right = gates::level(self.gates.alpha.share(), inputs.attempt);
        if self.alpha_spent != Some(right) {
            let written = self.alpha_spent.map_or("nothing".to_owned(), |spent| spent.to_string());
            let (attempt, right) = (inputs.attempt, right.to_string());
            faults.push(ReceiptFault::Alpha { attempt, right, written });
        }
    }

    fn verify_move(&self, faults: &mut Vec<ReceiptFault>) {
        let after = self.before.after(&self.event, &self.rollout, self.at_unix_ms);
        if after != self.after {
            faults.push(ReceiptFault::State);
        }
        let passed =
            self.readings.iter().filter(|reading| reading.verdict == Verdict::Pass).count();
        let weighed = Weighed {
            passed,
            of: self.readings.len(),
            alarm: self.alarm.as_ref().map(|alarm| alarm.sentence.as_str()),
        };
        if let Event::Promoted { to } = &self.event {
            if passed < self.readings.len() || self.readings.is_empty() {
                faults.push(ReceiptFault::NotPassed);
            }
            let attempt = self.before.attempt(*to);
            match &self.inputs {
                Some(inputs) if inputs.attempt != attempt => {
                    faults.push(ReceiptFault::Attempt { of: inputs.attempt, at: attempt });
                }
                _ => {}
            }
            let proposal =
                propose(&self.rollout, self.setting, &self.before, weighed, self.at_unix_ms);
            if proposal != (Proposal::Promote { to: *to }) {
                faults.push(ReceiptFault::NotProposed(format!("{proposal:?}")));
            }
        }
        // Operators let a rule fall for reasons of their own; the gateway does for an alarm.
        if let Event::Fell { cause } = &self.event
            && (self.alarm.is_some() || self.actor == "gateway")
        {
            let proposal =
                propose(&self.rollout, self.setting, &self.before, weighed, self.at_unix_ms);
            if proposal != (Proposal::Fall { cause: cause.clone() }) {
                faults.push(ReceiptFault::NotProposed(format!("{proposal:?}")));
            }
        }
    }

    fn verify_alarm(&self, faults: &mut Vec<ReceiptFault>) {
        let Some(alarm) = &self.alarm else { return };
        match alarm::judge(&self.gates.alarm, alarm.evidence.clone()) {
            Some(found) if found == *alarm => {}
            Some(found) => faults.push(ReceiptFault::Alarm(found.sentence)),
            None => faults.push(ReceiptFault::Alarm("of none at all".to_owned())),
        }
    }

    fn digest_of_content(&self) -> String {
        let bare = Self { digest: String::new(), ..self.clone() };
        // Through a value, whose keys are in order whatever the order of the fields.
        let value = serde_json::to_value(&bare).expect("a receipt is plain data");
        PolicyHash::of(&[value.to_string().as_bytes()]).to_string()
    }
}

/// The version of the form, which receipts of every form have.
fn form(text: &[u8]) -> Option<u32> {
    let receipt: serde_json::Value = serde_json::from_slice(text).ok()?;
    receipt.get("v")?.as_u64()?.try_into().ok()
}

/// JSON without the spaces between its tokens.
fn without_spaces(text: &[u8]) -> impl Iterator<Item = u8> {
    let (mut is_text, mut is_escaped) = (false, false);
    text.iter().copied().filter(move |byte| {
        let was_text = is_text;
        if is_text {
            is_text = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
        } else {
            is_text = *byte == b'"';
        }
        was_text || !byte.is_ascii_whitespace()
    })
}

fn clients_digest(inputs: &Inputs) -> String {
    let value = serde_json::to_value(&inputs.clients).expect("evidence is plain data");
    PolicyHash::of(&[value.to_string().as_bytes()]).to_string()
}

#[cfg(test)]
mod tests;
