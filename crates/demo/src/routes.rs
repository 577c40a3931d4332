//! The help desk's HTTP routes: one file per resource, listed in one table.
//!
//! Answers are JSON. Errors are `{"error": "…"}` with the status that fits: 404 where there is
//! no such thing for this tenant, 413 above [`BODY_MAX`], 422 where a field is out of its
//! bounds. The tenant is what `x-tenant-id` says, without any proof: proving it is not this
//! service's business.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode, Uri};

use crate::store::Store;
use error::ApiError;

mod companies;
mod complaints;
pub(crate) mod error;
mod field;
mod gradings;
mod messages;
mod page;
mod parcels;
mod request;
mod simulations;
mod traces;

/// The largest request body, in bytes: traces are uploaded here.
const BODY_MAX: usize = 16 << 20;

/// One operation. A path appears once per method; `{id}` stands for a segment.
pub(crate) struct Route {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for holding the document against the table")
    )]
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    handler: MethodRouter<Store>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Store>,
        T: 'static,
    {
        let filter =
            MethodFilter::try_from(method.clone()).expect("the table has standard methods only");
        Self { method, path, handler: on(filter, handler) }
    }
}

/// Every operation the service has.
pub(crate) fn table() -> Vec<Route> {
    let mut table = Vec::new();
    table.extend(page::routes());
    table.extend(complaints::routes());
    table.extend(messages::routes());
    table.extend(simulations::routes());
    table.extend(gradings::routes());
    table.extend(traces::routes());
    table.extend(companies::routes());
    table.extend(parcels::routes());
    table
}

pub(crate) fn router(store: Store) -> Router {
    let mut router = Router::new();
    for route in table() {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(store)
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let text = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::harness::Caller;
    use crate::{Service, ServiceConfig};

    async fn service() -> (Service, Caller) {
        let service = Service::start(ServiceConfig::default()).await.unwrap();
        let caller = Caller::new(service.addr());
        (service, caller)
    }

    fn complaint() -> Value {
        json!({ "subject": "Hinge broke", "body": "On the second day.", "category": "quality" })
    }

    #[tokio::test]
    async fn what_is_out_of_bounds_gets_a_plain_error() {
        let (service, mut caller) = service().await;
        let long = |len| "ä".repeat(len);
        let with = |field: &str, value: Value| {
            let mut body = complaint();
            body[field] = value;
            Some(body)
        };
        let steps = |step: Value| Some(json!({ "name": "t", "steps": step }));
        let simulation =
            |agents, size| Some(json!({ "name": "s", "agents": agents, "size": size }));
        let company = || Some(json!({ "name": "B", "stage": "seed", "employees": 3 }));
        let cases = [
            ("POST /api/complaints", with("subject", json!("")), 422, "subject"),
            ("POST /api/complaints", with("subject", json!(long(201))), 422, "1 to 200"),
            ("POST /api/complaints", with("subject", json!(long(200))), 201, ""),
            ("POST /api/complaints", with("body", json!(long(4001))), 422, "body"),
            ("POST /api/complaints", with("category", json!("weather")), 422, "category"),
            ("POST /api/complaints", with("tenant", json!("acme")), 422, "tenant"),
            ("POST /api/complaints", Some(json!([])), 422, ""),
            ("POST /api/complaints", None, 415, "Content-Type"),
            ("PATCH /api/complaints/24", Some(json!({})), 422, "expected a subject"),
            ("PATCH /api/complaints/24", Some(json!({ "status": "lost" })), 422, "status"),
            ("PATCH /api/complaints/99999", Some(json!({ "status": "open" })), 404, "complaint"),
            (
                "POST /api/complaints/99999/notes",
                Some(json!({ "author": "a", "text": "t" })),
                404,
                "complaint",
            ),
            ("DELETE /api/complaints/99999", None, 404, "complaint"),
            ("GET /api/complaints/one", None, 404, "no such"),
            ("GET /api/complaints?limit=0", None, 422, "1 to 100"),
            ("GET /api/complaints?limit=101", None, 422, "1 to 100"),
            ("GET /api/complaints?status=lost", None, 422, "status"),
            ("GET /api/complaints?colour=red", None, 422, "colour"),
            ("GET /api/companies?stage=series-z", None, 422, "stage"),
            ("PUT /api/companies/Capital", company(), 422, "lower-case"),
            ("PUT /api/companies/new-here", company(), 201, ""),
            ("PUT /api/companies/new-here", company(), 200, ""),
            ("POST /api/simulations", simulation(0, 1), 422, "agents"),
            ("POST /api/simulations", simulation(1, 11), 422, "size"),
            ("GET /api/simulations/99999", None, 404, "simulation"),
            ("POST /api/grading", Some(json!({ "answer": "a", "rubric": [] })), 422, "1 to 20"),
            ("POST /api/traces", steps(json!([])), 422, "1 to 10000"),
            (
                "POST /api/traces",
                steps(json!([{ "text": "t", "duration_ms": -1 }])),
                422,
                "duration_ms",
            ),
            (
                "POST /api/hooks/parcels",
                Some(json!({ "parcel": "PX-1", "state": "eaten" })),
                422,
                "state",
            ),
            ("GET /nowhere", None, 404, "/nowhere"),
            ("DELETE /api/messages", None, 405, "DELETE"),
        ];
        for (request, body, status, says) in cases {
            let (method, target) = request.split_once(' ').unwrap();
            let method = method.parse().unwrap();
            let (answered, body) = caller.json(method, target, &[], body.as_ref()).await;
            assert_eq!(answered.as_u16(), status, "{request}: {body}");
            if !answered.is_success() {
                let error = body["error"].as_str().unwrap_or_default();
                assert!(error.contains(says) && !error.is_empty(), "{request}: {body}");
                assert_eq!(body.as_object().unwrap().len(), 1, "{request}: {body}");
            }
        }
        service.shutdown().await;
    }

    #[tokio::test]
    async fn a_complaint_goes_its_way() {
        let (service, mut caller) = service().await;
        let (status, made) = caller.post("/api/complaints", &complaint()).await;
        assert_eq!((status, &made["status"]), (StatusCode::CREATED, &json!("open")));
        let target = format!("/api/complaints/{}", made["id"]);

        let note = json!({ "author": "mara", "text": "Sent a new hinge." });
        caller.post(&format!("{target}/notes"), &note).await;
        let change = json!({ "status": "resolved" });
        let (_, changed) = caller.json(Method::PATCH, &target, &[], Some(&change)).await;
        assert_eq!(
            (&changed["status"], &changed["subject"]),
            (&json!("resolved"), &made["subject"])
        );
        let (_, shown) = caller.get(&target).await;
        assert_eq!(shown["notes"][0]["text"], "Sent a new hinge.");

        assert_eq!(caller.json(Method::DELETE, &target, &[], None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(caller.get(&target).await.0, StatusCode::NOT_FOUND);
        service.shutdown().await;
    }

    #[tokio::test]
    async fn a_tenant_sees_its_own_alone() {
        let (service, mut caller) = service().await;
        let acme = [("x-tenant-id", "acme")];
        let (_, made) =
            caller.json(Method::POST, "/api/complaints", &acme, Some(&complaint())).await;
        let target = format!("/api/complaints/{}", made["id"]);
        let note = json!({ "author": "a", "text": "t" });
        let change = json!({ "status": "closed" });
        let cases = [
            ("globex", StatusCode::NOT_FOUND),
            ("acme", StatusCode::OK),
            ("Not A Name", StatusCode::UNPROCESSABLE_ENTITY),
        ];
        for (tenant, expected) in cases {
            let tenant = [("x-tenant-id", tenant)];
            let answers = [
                caller.json(Method::GET, &target, &tenant, None).await,
                caller.json(Method::PATCH, &target, &tenant, Some(&change)).await,
                caller.json(Method::POST, &format!("{target}/notes"), &tenant, Some(&note)).await,
                caller.json(Method::DELETE, &target, &tenant, None).await,
            ];
            for (status, body) in answers {
                assert!(
                    status == expected || expected.is_success() && status.is_success(),
                    "{body}"
                );
            }
        }
        service.shutdown().await;
    }

    /// Walks a list page by page.
    async fn walk(caller: &mut Caller, target: &str, key: &str) -> Vec<Value> {
        let (mut items, mut from) = (Vec::new(), String::new());
        loop {
            let (status, mut page) = caller.get(&format!("{target}{from}")).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            items.append(page["items"].as_array_mut().unwrap());
            match page.get("next") {
                Some(Value::String(next)) => from = format!("&{key}={next}"),
                Some(next) => from = format!("&{key}={next}"),
                None => return items,
            }
        }
    }

    #[tokio::test]
    async fn lists_are_filtered_and_paged_by_key() {
        let (service, mut caller) = service().await;
        let cases = [
            ("/api/complaints?limit=100", "before", 24),
            ("/api/complaints?limit=5", "before", 24),
            ("/api/complaints?limit=24", "before", 24),
            ("/api/complaints?category=billing&limit=4", "before", 6),
            ("/api/complaints?q=HINGE&limit=1", "before", 3),
            ("/api/complaints?q=nothing%25_like_this&limit=1", "before", 0),
            ("/api/messages?limit=3", "before", 4),
            ("/api/messages?to=jonas&limit=3", "before", 4),
            ("/api/messages?to=nobody&limit=3", "before", 0),
            ("/api/traces?limit=1", "before", 1),
            ("/api/companies?limit=3", "after", 8),
            ("/api/companies?stage=series-a&limit=1", "after", 3),
        ];
        for (target, key, count) in cases {
            let items = walk(&mut caller, target, key).await;
            assert_eq!(items.len(), count, "{target}");
            let in_order = items.is_sorted_by(|first, second| match key {
                "before" => first["id"].as_i64() > second["id"].as_i64(),
                _ => first["id"].as_str() < second["id"].as_str(),
            });
            assert!(in_order, "{target}");
        }
        let resolved = walk(&mut caller, "/api/complaints?status=resolved&limit=2", "before").await;
        assert!(resolved.iter().all(|complaint| complaint["status"] == "resolved"));
        service.shutdown().await;
    }

    #[tokio::test]
    async fn slow_jobs_answer_with_their_results() {
        let (service, mut caller) = service().await;
        let simulation = json!({ "name": "Monday", "agents": 2, "size": 1 });
        let (_, made) = caller.post("/api/simulations", &simulation).await;
        assert!(made["wait_minutes_mean"].as_f64().unwrap() > 0.0, "{made}");
        let (_, shown) = caller.get(&format!("/api/simulations/{}", made["id"])).await;
        assert_eq!(shown, made);

        let grading = json!({
            "answer": "We REFUND you, with our apologies.",
            "rubric": ["refund", "apolog", "deadline"],
        });
        let (_, graded) = caller.post("/api/grading", &grading).await;
        assert_eq!((&graded["score"], &graded["missing"]), (&json!(66), &json!(["deadline"])));
        service.shutdown().await;
    }

    #[tokio::test]
    async fn large_traces_are_taken_up_to_a_bound() {
        let (service, mut caller) = service().await;
        let step = json!({ "text": "x".repeat(100_000), "duration_ms": 2 });
        let trace = json!({ "name": "large", "steps": vec![step; 30] });
        let (_, made) = caller.post("/api/traces", &trace).await;
        let sums = (&made["steps"], &made["bytes"], &made["duration_ms"]);
        assert_eq!(sums, (&json!(30), &json!(3_000_000), &json!(60)));

        // One byte more than the bound: the last one is refused, and nothing is left unread that
        // would take the answer down with the connection.
        let trace = trace.to_string();
        for (len, expected) in
            [(BODY_MAX, StatusCode::CREATED), (BODY_MAX + 1, StatusCode::PAYLOAD_TOO_LARGE)]
        {
            let padded = trace.clone() + &" ".repeat(len - trace.len());
            let (status, body) = caller.post_text("/api/traces", padded).await;
            assert_eq!(status, expected, "{body}");
            assert_eq!(body["error"].is_string(), !status.is_success(), "{body}");
        }
        service.shutdown().await;
    }
}
