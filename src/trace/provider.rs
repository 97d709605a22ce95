//! Where times and ids come from, so that tests can fix them. Nothing else reads the clock or draws random numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::model::{RunId, SpanId, TraceId};

/// Nanoseconds since the Unix epoch, from the system or from a test.
///
/// The system's clock is read once; from then on time advances with the monotonic clock, so that no span ends before it
/// began when the wall clock is set.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's time.
    #[default]
    System,
    /// A counter that advances by the given step at each reading.
    Stepping {
        /// The next reading.
        next: Arc<AtomicU64>,
        /// Nanoseconds between two readings.
        step: u64,
    },
}

impl Clock {
    /// A clock for tests: `start`, then `step` nanoseconds more at each reading.
    pub fn stepping(start: u64, step: Duration) -> Self {
        Self::Stepping { next: Arc::new(AtomicU64::new(start)), step: step.as_nanos() as u64 }
    }

    /// The time now, in nanoseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now_unix_nano(&self) -> u64 {
        static ANCHOR: OnceLock<(u64, Instant)> = OnceLock::new();
        match self {
            Self::System => {
                let (wall, instant) = ANCHOR.get_or_init(|| {
                    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    (wall.as_nanos() as u64, Instant::now())
                });
                wall + instant.elapsed().as_nanos() as u64
            }
            Self::Stepping { next, step } => next.fetch_add(*step, Ordering::Relaxed),
        }
    }
}

/// Random trace, span and run ids; seeded in tests.
#[derive(Debug, Clone)]
pub struct Ids(Arc<Mutex<SmallRng>>);

impl Default for Ids {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(SmallRng::from_os_rng())))
    }
}

impl Ids {
    /// The same ids in the same order for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// A new trace id: random and not zero.
    pub fn trace_id(&self) -> TraceId {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        TraceId::from_bytes(bytes)
    }

    /// A new span id: random and not zero.
    pub fn span_id(&self) -> SpanId {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        SpanId::from_bytes(bytes)
    }

    /// A new run id: the time to the second, then three hex digits for the fraction of the second (1/4096 s each) and three
    /// random ones (`20261122-154501-3f9a2c`).
    pub fn run_id(&self, now_unix_nano: u64) -> RunId {
        let stamp = jiff::Timestamp::from_nanosecond(i128::from(now_unix_nano)).unwrap_or_default();
        let fraction = (now_unix_nano % 1_000_000_000) * 4096 / 1_000_000_000;
        let random = self.rng(|rng| rng.random::<u16>() & 0x0fff);
        RunId::parse(format!("{}-{fraction:03x}{random:03x}", stamp.strftime("%Y%m%d-%H%M%S")))
            .expect("digits, hyphens and hex digits make a run id")
    }

    /// A number drawn uniformly from 0 ≤ x < 1, for jitter.
    pub fn unit(&self) -> f64 {
        self.rng(Rng::random::<f64>)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.rng(|rng| {
            rng.fill_bytes(bytes);
            while bytes.iter().all(|b| *b == 0) {
                rng.fill_bytes(bytes);
            }
        });
    }

    fn rng<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.0.lock().expect("no draw panics"))
    }
}

/// Clock and ids together: what a run needs of the world beside its dataset and its model.
#[derive(Debug, Clone, Default)]
pub struct Ambient {
    /// The time.
    pub clock: Clock,
    /// The ids.
    pub ids: Ids,
}

impl Ambient {
    /// The time now, in nanoseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.clock.now_unix_nano()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time() {
        let ids = Ids::seeded(1);
        let early = ids.run_id(1_700_000_000_000_000_000);
        let late = ids.run_id(1_800_000_000_000_000_000);
        assert!(early < late);
        assert!(early < ids.run_id(1_700_000_000_001_000_000), "a millisecond later");
        assert!(early.as_str().starts_with("20231114-221320-"), "{early}");
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::System;
        let (a, b) = (clock.now_unix_nano(), clock.now_unix_nano());
        assert!(a <= b && a > 1_600_000_000_000_000_000);
    }
}
