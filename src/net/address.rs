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

#[cfg(test)]
mod tests {
    use super::*;

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
