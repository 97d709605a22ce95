//! How much may be under way at once: bytes of requests, and requests. Beyond it the answer is "later", at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::serve::app::Traffic;

/// What all requests of a collector share.
#[derive(Debug)]
pub(super) struct Budget {
    max_bytes: u64,
    max_requests: usize,
    requests: AtomicUsize,
    traffic: Arc<Traffic>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Budget {
    pub(super) fn new(max_bytes: u64, max_requests: usize, traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self { max_bytes, max_requests, requests: AtomicUsize::new(0), traffic })
    }

    /// Room for one more request, without bytes yet.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Share, Full> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        // Dropped, it gives back what it took.
        let share = Share { budget: Arc::clone(self), bytes: 0 };
        if before < self.max_requests { Ok(share) } else { Err(Full) }
    }

    fn bytes(&self) -> &AtomicU64 {
        &self.traffic.queued_bytes
    }
}

/// What one request holds of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    /// Takes so many bytes more. A request that is alone gets them in any case: the limit of one request bounds them.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        let (own, max) = (self.bytes, self.budget.max_bytes);
        let fits = |taken: u64| (taken + bytes <= max || taken == own).then_some(taken + bytes);
        match self.budget.bytes().fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Full),
        }
    }

    /// Gives all of its bytes back, so that others get on while this request is being refused.
    pub(super) fn clear(&mut self) {
        self.shrink(self.bytes);
    }

    /// Gives some of its bytes back.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.bytes().fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
        self.budget.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let traffic = Arc::new(Traffic::default());
        let budget = Budget::new(100, 2, Arc::clone(&traffic));
        let mut a = budget.enter().expect("room");
        let mut b = budget.enter().expect("room");
        assert_eq!(budget.enter().map(drop), Err(Full), "a third request");
        assert_eq!((a.grow(60), b.grow(60), b.grow(40)), (Ok(()), Err(Full), Ok(())));
        assert_eq!((a.grow(1), traffic.queued_bytes.load(Ordering::Relaxed)), (Err(Full), 100));
        b.shrink(10);
        assert_eq!(a.grow(10), Ok(()));
        drop(b);
        assert_eq!(a.grow(5000), Ok(()), "alone, a request of any size is taken");
        assert_eq!(budget.enter().expect("room").grow(1), Err(Full));
        drop(a);
        assert_eq!(traffic.queued_bytes.load(Ordering::Relaxed), 0);
        assert!(budget.enter().is_ok());
    }
}
