//! Caps on tokens, cost and time: once one is reached, no new trial starts.

use std::sync::Mutex;

/// The caps of a run; `None` is no cap.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Input and output tokens together.
    pub tokens: Option<u64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// Nanoseconds since the session started.
    pub duration_ns: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Used {
    tokens: u64,
    cost_usd: f64,
}

/// What is used up so far, against the caps.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    started_unix_nano: u64,
    used: Mutex<Used>,
}

impl Budget {
    /// Starts with what earlier sessions of the run used.
    pub fn new(limits: Limits, started_unix_nano: u64, tokens: u64, cost_usd: f64) -> Self {
        Self { limits, started_unix_nano, used: Mutex::new(Used { tokens, cost_usd }) }
    }

    /// Counts what a trial used.
    pub fn spend(&self, tokens: u64, cost_usd: Option<f64>) {
        let mut used = self.used.lock().expect("no holder panics");
        used.tokens += tokens;
        used.cost_usd += cost_usd.unwrap_or(0.0);
    }

    /// Why no new trial may start, if that is so.
    pub fn exhausted(&self, now: u64) -> Option<String> {
        let used = *self.used.lock().expect("no holder panics");
        if let Some(cap) = self.limits.tokens.filter(|cap| used.tokens >= *cap) {
            return Some(format!("the token budget is used up: {} of {cap} tokens", used.tokens));
        }
        if let Some(cap) = self.limits.cost_usd.filter(|cap| used.cost_usd >= *cap) {
            return Some(format!("the cost budget is used up: {:.6} of {cap} USD", used.cost_usd));
        }
        let elapsed = now.saturating_sub(self.started_unix_nano);
        let cap = self.limits.duration_ns.filter(|cap| elapsed >= *cap)?;
        Some(format!("the time budget of {:.3} s is used up", cap as f64 / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cap_stops_by_itself_and_says_why() {
        let check = |limits: Limits, now: u64, want: Option<&str>| {
            let budget = Budget::new(limits, 1_000, 90, 0.5);
            budget.spend(10, Some(0.5));
            let found = budget.exhausted(now);
            assert_eq!(found.is_some(), want.is_some(), "{found:?}");
            assert!(want.is_none_or(|text| found.expect("some").contains(text)));
        };
        check(Limits::default(), u64::MAX, None);
        check(Limits { tokens: Some(100), ..Limits::default() }, 0, Some("100 of 100 tokens"));
        check(Limits { tokens: Some(101), ..Limits::default() }, 0, None);
        check(Limits { cost_usd: Some(1.0), ..Limits::default() }, 0, Some("USD"));
        check(Limits { duration_ns: Some(500), ..Limits::default() }, 1_499, None);
        check(Limits { duration_ns: Some(500), ..Limits::default() }, 1_500, Some("time budget"));
    }
}
