//! What a well-behaved client wants at the help desk, whichever way it says so.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::connection::Answer;
use crate::random::Random;

const SUBJECTS: [&str; 5] = [
    "Invoice of June is missing",
    "Parcel never arrived",
    "The lid does not close",
    "Please change my address",
    "Refund promised, not seen",
];
const CATEGORIES: [&str; 5] = ["billing", "delivery", "quality", "account", "other"];
const STATUSES: [&str; 4] = ["open", "pending", "resolved", "closed"];
const STAGES: [&str; 4] = ["seed", "series-a", "series-b", "public"];
const COMPANIES: [&str; 4] = ["anvil-works", "brightwater", "cobalt-labs", "evenkeel"];
const AGENTS: [&str; 3] = ["mara", "jonas", "priya"];

/// One thing to ask for.
pub(super) struct Errand {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) body: Option<Value>,
}

/// What came of earlier errands: there is a complaint to come back to, and a simulation.
#[derive(Default)]
pub(super) struct Errands {
    complaint: Option<u64>,
    simulation: Option<u64>,
    asked: Asked,
}

/// What the answer under way will tell.
#[derive(Clone, Copy, Default)]
enum Asked {
    #[default]
    Nothing,
    NewComplaint,
    NewSimulation,
}

impl Errands {
    pub(super) fn next(&mut self, random: &mut Random) -> Errand {
        self.asked = Asked::Nothing;
        match random.below(100) {
            0..24 => list_complaints(random),
            24..64 => self.mind_complaint(random),
            64..72 => send_message(random),
            72..80 => get("/api/messages?limit=10".to_owned()),
            80..86 => self.mind_simulation(random),
            86..89 => grade(random),
            89..92 => upload_trace(random),
            92..97 => get(format!("/api/companies?stage={}", random.pick(&STAGES))),
            _ => put_company(random),
        }
    }

    pub(super) fn learn(&mut self, answer: &Answer) {
        if answer.status != StatusCode::CREATED {
            return;
        }
        let made = || serde_json::from_slice::<Value>(&answer.body).ok()?.get("id")?.as_u64();
        match self.asked {
            Asked::Nothing => {}
            Asked::NewComplaint => self.complaint = made(),
            Asked::NewSimulation => self.simulation = made(),
        }
    }

    /// A complaint is made, looked at, noted upon, moved on, and in the end sometimes deleted.
    fn mind_complaint(&mut self, random: &mut Random) -> Errand {
        let Some(id) = self.complaint else {
            self.asked = Asked::NewComplaint;
            let body = json!({
                "subject": random.pick(&SUBJECTS),
                "body": "It has been a week. Could someone have a look, please?",
                "category": random.pick(&CATEGORIES),
            });
            return send(Method::POST, "/api/complaints".to_owned(), body);
        };
        let target = format!("/api/complaints/{id}");
        match random.below(10) {
            0..4 => get(target),
            4..6 => {
                let body = json!({
                    "author": random.pick(&AGENTS),
                    "text": "Called back, left a message.",
                });
                send(Method::POST, format!("{target}/notes"), body)
            }
            6..8 => send(Method::PATCH, target, json!({ "status": random.pick(&STATUSES) })),
            8 => {
                self.complaint = None;
                Errand { method: Method::DELETE, target, body: None }
            }
            _ => {
                // Done with it: the next one is new.
                self.complaint = None;
                send(Method::PATCH, target, json!({ "status": "closed" }))
            }
        }
    }

    fn mind_simulation(&mut self, random: &mut Random) -> Errand {
        match self.simulation.take() {
            Some(id) => get(format!("/api/simulations/{id}")),
            None => {
                self.asked = Asked::NewSimulation;
                let (agents, size) = (1 + random.below(12), 1 + random.below(10));
                let body = json!({ "name": "next week", "agents": agents, "size": size });
                send(Method::POST, "/api/simulations".to_owned(), body)
            }
        }
    }
}

fn list_complaints(random: &mut Random) -> Errand {
    get(match random.below(4) {
        0 => format!("/api/complaints?status={}", random.pick(&STATUSES)),
        1 => format!("/api/complaints?category={}&limit=50", random.pick(&CATEGORIES)),
        2 => format!("/api/complaints?q={}", random.pick(&["invoice", "parcel", "hinge"])),
        _ => "/api/complaints".to_owned(),
    })
}

fn send_message(random: &mut Random) -> Errand {
    let body = json!({
        "from": random.pick(&AGENTS),
        "to": random.pick(&AGENTS),
        "text": "Could you take this one? I am out after lunch.",
    });
    send(Method::POST, "/api/messages".to_owned(), body)
}

fn grade(random: &mut Random) -> Errand {
    let rubric = ["apology", "refund", "deadline", "name", "thanks", "next step"];
    let points = 1 + random.below(rubric.len() as u64) as usize;
    let answer = "With an apology for the delay: the refund is on its way. Thanks for waiting.";
    let body = json!({ "answer": answer, "rubric": rubric.get(..points) });
    send(Method::POST, "/api/grading".to_owned(), body)
}

/// 1 to 40 steps of half a kilobyte.
fn upload_trace(random: &mut Random) -> Errand {
    let step = json!({ "text": "read, weighed, decided; ".repeat(20), "duration_ms": 35 });
    let steps = vec![step; 1 + random.below(40) as usize];
    let body = json!({ "name": "refund decision", "steps": steps });
    send(Method::POST, "/api/traces".to_owned(), body)
}

fn put_company(random: &mut Random) -> Errand {
    let body = json!({
        "name": "A company",
        "stage": random.pick(&STAGES),
        "employees": 1 + random.below(500),
    });
    send(Method::PUT, format!("/api/companies/{}", random.pick(&COMPANIES)), body)
}

fn get(target: String) -> Errand {
    Errand { method: Method::GET, target, body: None }
}

fn send(method: Method, target: String, body: Value) -> Errand {
    Errand { method, target, body: Some(body) }
}
