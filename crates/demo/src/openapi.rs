//! The service's OpenAPI 3.1 document: every operation, with the bounds that it keeps.

use serde_json::Value;

pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

/// The document that the service has at `/openapi.json`.
pub fn openapi() -> Value {
    serde_json::from_str(DOCUMENT).expect("a test has parsed the embedded document")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;

    use super::*;
    use crate::harness::Caller;
    use crate::routes;
    use crate::{Service, ServiceConfig};

    /// Each operation of the document: method, path, description.
    fn operations(document: &Value) -> Vec<(Method, String, Value)> {
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let method = method.to_uppercase().parse().unwrap();
                operations.push((method, path.clone(), operation.clone()));
            }
        }
        operations
    }

    #[test]
    fn every_route_is_documented_and_nothing_else_is() {
        let documented: BTreeSet<_> = operations(&openapi())
            .into_iter()
            .map(|(method, path, _)| format!("{method} {path}"))
            .collect();
        let routed: BTreeSet<_> = routes::table()
            .iter()
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        assert_eq!(documented, routed);
    }

    #[tokio::test]
    async fn every_operation_answers_its_documented_example_as_documented() {
        let service = Service::start(ServiceConfig::default()).await.unwrap();
        let mut caller = Caller::new(service.addr());
        let (_, document) = caller.get("/openapi.json").await;
        assert_eq!(document, openapi());

        let mut operations = operations(&document);
        // What a deletion removes, the others still need.
        operations.sort_by_key(|(method, ..)| *method == Method::DELETE);
        for (method, path, operation) in operations {
            let id = match operation["operationId"].as_str().unwrap() {
                "showSimulation" => "1",
                "putCompany" => "brightwater",
                _ => "24",
            };
            let target = path.replace("{id}", id);
            let example = operation["requestBody"]["content"]["application/json"].get("example");
            assert_eq!(example.is_some(), operation.get("requestBody").is_some(), "{path}");
            let answer = caller.send(method.clone(), &target, &[], example).await;
            let status = answer.status;
            assert!(status.is_success(), "{method} {target}: {answer:?}");
            let documented = &operation["responses"][status.as_str()];
            assert!(documented.is_object(), "{method} {target}: {status} is undocumented");
            if let Some(content) = documented["content"].get("application/json") {
                let body = serde_json::from_slice(&answer.body).unwrap();
                fits(&document, &content["schema"], &body, &format!("{method} {target}"));
            }
        }
        service.shutdown().await;
    }

    /// Checks `value` against the parts of JSON Schema that say which fields there are.
    fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = document.pointer(reference.trim_start_matches('#')).expect(reference);
            return fits(document, target, value, at);
        }
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value} is none of {words:?}");
        }
        let right = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            _ => true,
        };
        assert!(right, "{at}: {value} is no {}", schema["type"]);
        for (name, field) in value.as_object().into_iter().flatten() {
            if let Some(properties) = schema.get("properties") {
                let property = properties.get(name);
                let property = property.unwrap_or_else(|| panic!("{at}.{name} is undocumented"));
                fits(document, property, field, &format!("{at}.{name}"));
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(value.get(name.as_str().unwrap()).is_some(), "{at}.{name} is missing");
        }
        for item in value.as_array().into_iter().flatten() {
            fits(document, &schema["items"], item, at);
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_everything_is_referred_to() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                        found.insert(reference.to_owned());
                    }
                    fields.values().for_each(|field| references(field, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = openapi();
        let mut referred = BTreeSet::new();
        references(&document, &mut referred);
        let mut defined = BTreeSet::new();
        for (kind, components) in document["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys() {
                defined.insert(format!("#/components/{kind}/{name}"));
            }
        }
        assert_eq!(referred, defined);
    }
}
