use http::HeaderValue;
use serde_json::json;

use super::*;
use crate::detect::Kind;

const SQL: &str = "1' or '1'='1";
const XSS: &str = "<script>alert(1)</script>";

/// The findings as `field kind`, and what of the field where it is not its value.
fn found(fields: &Fields<'_>) -> Vec<String> {
    let text = |found: &FieldFinding| match found.of {
        Of::Value => format!("{} {}", found.at, found.finding.kind.as_str()),
        of => format!("{} {} {of:?}", found.at, found.finding.kind.as_str()),
    };
    fields.findings().iter().map(text).collect()
}

fn allow(fields: &[(&str, Kinds)]) -> AllowList {
    let allowed = fields.iter().map(|(field, kinds)| Allow::new(field, *kinds).unwrap());
    AllowList::new(allowed.collect()).unwrap()
}

#[test]
fn each_finding_says_where_it_is() {
    let none = AllowList::default();
    let mut fields = Fields::new(&none, Kinds::Both);
    fields.query("page=2&q=1%27+or+%271%27%3D%271&filter%5Bname%5D=%3Csvg%3E&1'or'1'%3D'1=x");
    fields.path("/api/tickets/1%20union%20select%201");
    let mut headers = HeaderMap::new();
    headers.append("cookie", HeaderValue::from_static("theme=dark; last=1' or '1'='1; x=y"));
    headers.append("cookie", HeaderValue::from_static("name=O'Brien"));
    headers.insert("referer", HeaderValue::from_static("javascript:alert(1)"));
    headers.insert("user-agent", HeaderValue::from_static("<script>"));
    fields.cookies(&headers);
    fields.headers(&headers, &[header::REFERER]);
    fields.form("title=It%27s+late&body=%3Cscript%3E");
    fields.part("comment", None, Some(XSS.as_bytes()));
    fields.part("picture", Some("\"><img src=x onerror=alert(1)>.png"), None);
    assert_eq!(
        found(&fields),
        [
            "query:q sql",
            "query:filter[name] xss",
            "query sql Name",
            "path:segment 3 sql",
            "cookie:last sql",
            "header:referer xss",
            "form:body xss",
            "part:comment xss",
            "part:picture xss FileName",
        ]
    );
    assert!(fields.is_whole());
}

#[test]
fn a_pointer_names_what_is_in_json() {
    let none = AllowList::default();
    for (body, want) in [
        (json!(SQL), vec!["body sql"]),
        (json!({"a": ["x", {"b": SQL}]}), vec!["/a/1/b sql"]),
        (json!({"a/b": {"m~n": XSS}}), vec!["/a~1b/m~0n xss"]),
        (json!({"a": {SQL: 1}}), vec!["/a sql Name"]),
        (json!({XSS: SQL}), vec!["body xss Name", "/(hidden) sql"]),
        (json!({"": SQL}), vec!["/ sql"]),
        (json!({"1 union select x from y": XSS}), vec!["body sql Name", "/(hidden) xss"]),
        (json!([1, true, null, "O'Brien"]), vec![]),
        (json!({"x".repeat(65): SQL}), vec!["/(hidden) sql"]),
    ] {
        let mut fields = Fields::new(&none, Kinds::Both);
        fields.json(&body);
        assert_eq!(found(&fields), want, "{body}");
    }
}

#[test]
fn allowed_fields_may_carry_what_they_are_allowed() {
    let both = format!("{SQL} {XSS}");
    let body = json!({"items": [{"body": both}, {"body": SQL, "title": XSS}], "body": XSS});
    for (allowed, want) in [
        (vec![], vec!["/body xss", "/items/0/body sql", "/items/1/body sql", "/items/1/title xss"]),
        (vec![("/items/*/body", Kinds::Both)], vec!["/body xss", "/items/1/title xss"]),
        (
            vec![("/items/*/body", Kinds::Sql)],
            vec!["/body xss", "/items/0/body xss", "/items/1/title xss"],
        ),
        (
            vec![("/items/0/body", Kinds::Sql), ("/items/0/body", Kinds::Xss)],
            vec!["/body xss", "/items/1/body sql", "/items/1/title xss"],
        ),
        (vec![("/items/*/*", Kinds::Both), ("/*", Kinds::Both)], vec![]),
        (
            vec![
                ("/items", Kinds::Both),
                ("query:body", Kinds::Both),
                ("/items/01/body", Kinds::Both),
            ],
            vec!["/body xss", "/items/0/body sql", "/items/1/body sql", "/items/1/title xss"],
        ),
    ] {
        let allowed = allow(&allowed);
        let mut fields = Fields::new(&allowed, Kinds::Both);
        fields.json(&body);
        assert_eq!(found(&fields), want, "{allowed:?}");
    }
}

#[test]
fn names_are_matched_as_a_service_reads_them() {
    for (pattern, allowed) in [
        ("query:filter[name]", true),
        ("query:*", true),
        ("query:filter%5Bname%5D", false),
        ("form:filter[name]", false),
        ("query:Filter[name]", false),
    ] {
        let allow = allow(&[(pattern, Kinds::Both)]);
        let mut fields = Fields::new(&allow, Kinds::Both);
        fields.query("filter%5Bname%5D=%3Cscript%3E");
        assert_eq!(fields.findings().is_empty(), allowed, "{pattern}");
    }
    let allow = allow(&[("header:Referer", Kinds::Both), ("path:segment 2", Kinds::Both)]);
    let mut fields = Fields::new(&allow, Kinds::Both);
    let mut headers = HeaderMap::new();
    headers.insert("referer", HeaderValue::from_static("javascript:alert(1)"));
    fields.headers(&headers, &[header::REFERER]);
    fields.path("/a/<script>/<script>");
    assert_eq!(found(&fields), ["path:segment 3 xss"]);
}

#[test]
fn only_the_kinds_that_are_asked_for_are_found() {
    let none = AllowList::default();
    for (kinds, want) in
        [(Kinds::Sql, Kind::Sql), (Kinds::Xss, Kind::Xss), (Kinds::Both, Kind::Sql)]
    {
        let mut fields = Fields::new(&none, kinds);
        fields.json(&json!(format!("{SQL} {XSS}")));
        assert_eq!(fields.findings()[0].finding.kind, want);
    }
}

#[test]
fn findings_and_depth_are_bounded_and_say_so() {
    let none = AllowList::default();
    let mut fields = Fields::new(&none, Kinds::Both);
    fields.json(&json!(vec![SQL; FINDINGS_MAX]));
    assert_eq!((fields.findings().len(), fields.is_whole()), (FINDINGS_MAX, true));
    fields.query("a=b");
    assert_eq!((fields.findings().len(), fields.is_whole()), (FINDINGS_MAX, false));

    let mut deep = json!(SQL);
    for _ in 0..JSON_DEPTH_MAX - 1 {
        deep = json!([deep]);
    }
    let mut fields = Fields::new(&none, Kinds::Both);
    fields.json(&deep);
    assert_eq!((fields.findings().len(), fields.is_whole()), (1, true));
    let mut fields = Fields::new(&none, Kinds::Both);
    fields.json(&json!([deep]));
    assert_eq!((fields.findings().len(), fields.is_whole()), (0, false));
}

#[test]
fn patterns_that_name_no_field_are_refused() {
    for (field, want) in [
        ("", AllowError::Place),
        ("q", AllowError::Place),
        ("queries:q", AllowError::Place),
        ("query:", AllowError::NoName),
        ("path:3", AllowError::Segment),
        ("path:segment 0", AllowError::Segment),
        ("path:segment x", AllowError::Segment),
        ("/a~2", AllowError::Escape),
        ("/a~", AllowError::Escape),
    ] {
        assert_eq!(Allow::new(field, Kinds::Both), Err(want), "{field}");
    }
    assert_eq!(Allow::new(&"/a".repeat(200), Kinds::Both), Err(AllowError::TooLong));
    let many = vec![Allow::new("/a", Kinds::Both).unwrap(); 257];
    assert_eq!(AllowList::new(many), Err(AllowError::TooMany));
}
