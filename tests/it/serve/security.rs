//! Foreign requests at every port: wrong names, other origins, pages of other sites, no token.

use std::net::SocketAddr;

use spanscore::serve::collector::CollectorOptions;
use spanscore::serve::security::Token;

use super::{Answer, JSON, Served, send};

const TOKEN: &str = "correct-horse-battery-staple";

fn ask(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let more: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n", body.len());
    send(to, &head, body.as_bytes())
}

/// The status of a page and of an OTLP request with these headers; `{}` in them is the port.
fn both(served: &Served, headers: &[&str]) -> (u16, u16) {
    let at = |port: SocketAddr| -> Vec<String> {
        headers.iter().map(|line| line.replace("{}", &port.port().to_string())).collect()
    };
    let (ui, otlp) = (at(served.ui()), at(served.http()));
    let mut otlp: Vec<&str> = otlp.iter().map(String::as_str).collect();
    otlp.push(JSON);
    let ui: Vec<&str> = ui.iter().map(String::as_str).collect();
    (
        ask(served.ui(), "GET", "/assets/app.css", &ui, "").status,
        ask(served.http(), "POST", "/v1/traces", &otlp, "{}").status,
    )
}

#[test]
fn hosts_that_are_not_ours_are_refused() {
    let served = Served::new();
    for host in ["127.0.0.1:{}", "localhost:{}", "LOCALHOST:{}", "[::1]:{}", "127.0.0.2:{}"] {
        assert_eq!(both(&served, &[&format!("Host: {host}")]), (200, 200), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:{}",
        "localhost.evil.example:{}",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.nip.io:{}",
        "192.168.0.1:{}",
        "localhost:{}@evil.example",
        "evil.example@localhost:{}",
        "user@localhost:{}",
        "0.0.0.0:{}",
        "2130706433:{}",
        "localhost:{} ,evil",
        "",
    ] {
        let (page, otlp) = both(&served, &[&format!("Host: {host}")]);
        assert!(matches!((page, otlp), (400 | 403, 400 | 403)), "{host}: {page} {otlp}");
    }
    assert!(matches!(both(&served, &[]), (400 | 403, 400 | 403)), "no Host at all");
    let (page, otlp) = both(&served, &["Host: localhost:{}", "Host: evil.example:{}"]);
    assert!(matches!((page, otlp), (400 | 403, 400 | 403)), "two Hosts");
    let host = format!("Host: {}", served.ui());
    assert_eq!(ask(served.ui(), "GET", "http://evil.example/assets/app.css", &[&host], "").status, 403, "as a proxy");
}

#[test]
fn names_that_the_user_allows_are_ours() {
    let allowed_hosts = vec!["host.docker.internal".to_owned(), "box:9000".to_owned()];
    let served = Served::with(CollectorOptions { allowed_hosts, ..CollectorOptions::default() });
    for host in ["host.docker.internal:{}", "Host.Docker.Internal", "box:9000", "localhost:{}"] {
        assert_eq!(both(&served, &[&format!("Host: {host}")]), (200, 200), "{host}");
    }
    assert_eq!(both(&served, &["Host: box:{}"]), (403, 403));
}

#[test]
fn other_origins_are_refused() {
    let served = Served::new();
    let with = |origin: &str| both(&served, &["Host: localhost:{}", &format!("Origin: {origin}")]);
    assert_eq!((with("http://localhost:{}"), with("http://127.0.0.1:{}")), ((200, 200), (200, 200)));
    for origin in [
        "null",
        "http://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "file://",
        "http://localhost:{}.evil.example",
        "http://localhost:{}/",
        "chrome-extension://abcdef",
        "",
    ] {
        assert_eq!(with(origin), (403, 403), "{origin}");
    }
    for port in [served.ui(), served.http()] {
        let host = format!("Host: {port}");
        let preflight = ["Origin: http://evil.example", "Access-Control-Request-Method: POST", &host];
        let answer = ask(port, "OPTIONS", "/v1/traces", &preflight, "");
        assert_eq!(answer.status, 403);
        let answer_to_own = ask(port, "GET", "/", &[&host, &format!("Origin: http://{port}")], "");
        for answer in [answer, answer_to_own] {
            assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{answer:?}");
        }
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    let served = Served::new();
    let with = |site: &str| both(&served, &["Host: localhost:{}", &format!("Sec-Fetch-Site: {site}")]);
    assert_eq!((with("none"), with("same-origin")), ((200, 200), (200, 200)));
    for site in ["cross-site", "same-site", "anything", ""] {
        assert_eq!(with(site), (403, 403), "{site}");
    }
    // Someone who follows a link is shown the way, without what the page holds.
    let host = format!("Host: {}", served.ui());
    let link = [&*host, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
    let answer = ask(served.ui(), "GET", "/traces?q=%3Cscript%3E", &link, "");
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("href=\"/traces?q=%3Cscript%3E\""), "{}", answer.text());
    let answer = ask(served.ui(), "GET", "//evil.example/", &link, "");
    assert!(answer.text().contains("href=\"/evil.example/\""), "{}", answer.text());
}

#[test]
fn what_changes_something_needs_a_header_that_forms_cannot_send() {
    let served = Served::new();
    let host = format!("Host: {}", served.ui());
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let plain = ask(served.ui(), method, "/setup", &[&host], "");
        assert!(plain.status == 403 && plain.text().contains("x-spanscore"), "{method}: {plain:?}");
        assert_ne!(ask(served.ui(), method, "/setup", &[&host, "x-spanscore: 1"], "").status, 403, "{method}");
        let foreign = [&*host, "x-spanscore: 1", "Origin: http://evil.example"];
        assert_eq!(ask(served.ui(), method, "/setup", &foreign, "").status, 403, "{method}");
    }
}

#[test]
fn every_page_says_what_it_may_load_and_that_nothing_is_kept() {
    let served = Served::new();
    let host = format!("Host: {}", served.ui());
    for (path, headers) in [("/", vec![&*host]), ("/no-such-page", vec![&*host]), ("/", vec!["Host: evil.example"])] {
        let answer = ask(served.ui(), "GET", path, &headers, "");
        let expected = [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                 form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ];
        for (name, value) in expected {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("cache-control").is_some_and(|value| value.starts_with("no-")), "{path}: {answer:?}");
    }
}

#[test]
fn with_a_token_everyone_has_to_show_it() {
    let options = CollectorOptions { token: Some(Token::new(TOKEN)), ..CollectorOptions::default() };
    let served = Served::with(options);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(both(&served, &["Host: localhost:{}"]), (401, 401));
    assert_eq!(both(&served, &["Host: localhost:{}", "Authorization: Bearer wrong"]), (401, 401));
    assert_eq!(both(&served, &["Host: localhost:{}", "Authorization: Basic Y29ycmVjdDpob3JzZQ=="]), (401, 401));
    assert_eq!(both(&served, &["Host: localhost:{}", &bearer]), (200, 200));
    assert_eq!(both(&served, &["Host: evil.example:{}", &bearer]), (403, 403), "the name counts all the same");

    let host = format!("Host: {}", served.ui());
    let wrong = ask(served.ui(), "GET", "/traces?token=wrong", &[&host], "");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let answer = ask(served.ui(), "GET", &format!("//traces?q=a&token={TOKEN}"), &[&host], "");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/traces?q=a")));
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let cookie = format!("Cookie: other=1; {}", cookie.split(';').next().expect("a pair"));
    assert_eq!(both(&served, &["Host: localhost:{}", &cookie]), (200, 401), "the cookie is for pages");
}

#[test]
fn calls_have_to_show_the_token_too() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    let options = CollectorOptions { token: Some(Token::new(TOKEN)), ..CollectorOptions::default() };
    let served = Served::with(options);
    served.block_on(async {
        let mut client = TraceServiceClient::connect(format!("http://{}", served.grpc())).await.expect("connected");
        let status = client.export(ExportTraceServiceRequest::default()).await.expect_err("no token");
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        let mut shown = tonic::Request::new(ExportTraceServiceRequest::default());
        shown.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().expect("ASCII"));
        client.export(shown).await.expect("let in");
    });
}
