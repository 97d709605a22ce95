//! Which addresses a key may go to.

use std::net::IpAddr;

use reqwest::Url;

/// Whether an address may be sent a key or a token: https, or plain http to this machine.
pub fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Whether an address is on this machine, where no proxy lies between.
pub fn is_loopback(url: &Url) -> bool {
    let bare = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a key that belongs to one address may go to another: the same host, and never from https to http. On this machine
/// each port is another program, so the port counts, too.
pub fn is_key_for(owner: &Url, to: &Url) -> bool {
    let same = if is_loopback(to) { is_same_server(owner, to) } else { is_same_host(owner, to) };
    same && (owner.scheme() != "https" || to.scheme() == "https")
}

/// Whether two addresses are on one host, under whatever name this machine goes.
fn is_same_host(one: &Url, other: &Url) -> bool {
    (is_loopback(one) && is_loopback(other)) || one.host_str() == other.host_str()
}

/// Whether two addresses lead to one server: the same port of one host.
pub fn is_same_server(one: &Url, other: &Url) -> bool {
    is_same_host(one, other) && one.port_or_known_default() == other.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_under_two_names_is_one_server() {
        for (one, other, host, server) in [
            ("http://localhost:6006/v1/traces", "http://127.0.0.1:6006", true, true),
            ("https://p.example/s/one", "https://p.example:443", true, true),
            ("http://p.example:4317", "http://p.example:4318", true, false),
            ("http://p.example", "http://q.example", false, false),
            ("http://p.example", "http://localhost", false, false),
        ] {
            let url = |text| Url::parse(text).unwrap();
            let found = (is_same_host(&url(one), &url(other)), is_same_server(&url(one), &url(other)));
            assert_eq!(found, (host, server), "{one} {other}");
        }
    }

    #[test]
    fn a_key_goes_to_the_host_that_it_belongs_to_and_never_in_the_clear_instead() {
        for (owner, to, expected) in [
            ("https://p.example", "https://p.example:4318/v1/traces", true),
            ("http://p.example:4318", "http://p.example:4317", true),
            ("http://p.example", "https://p.example", true),
            ("https://p.example", "http://p.example", false),
            ("https://p.example:4318", "http://p.example:4318", false),
            ("https://p.example", "https://q.example", false),
            ("https://p.example", "https://p.example.q.example", false),
            ("http://localhost:3000", "http://127.0.0.1:3000/api", true),
            ("http://localhost:3000", "http://localhost:4318", false),
            ("http://p.example:3000", "http://localhost:3000", false),
            ("http://localhost:3000", "http://p.example:3000", false),
        ] {
            let url = |text| Url::parse(text).unwrap();
            assert_eq!(is_key_for(&url(owner), &url(to)), expected, "{owner} {to}");
        }
    }

    #[test]
    fn a_key_goes_out_in_the_clear_to_this_machine_only() {
        for (text, safe, loopback) in [
            ("https://a.example/v1", true, false),
            ("http://a.example/v1", false, false),
            ("http://localhost:1", true, true),
            ("http://127.9.9.9", true, true),
            ("http://[::1]:1", true, true),
            ("http://localhost.example", false, false),
            ("http://127.0.0.1.example", false, false),
            ("ftp://localhost", false, true),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((is_safe(&url), is_loopback(&url)), (safe, loopback), "{text}");
        }
    }
}
