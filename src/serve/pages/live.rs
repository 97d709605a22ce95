//! `/live`: tells pages that something they show has changed, by server-sent events that carry names only: `runs`,
//! `run:ID`, `traces`, or `all` where it is not known what. The store is looked at only while somebody listens.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::serve::App;
use crate::store::{Marks, Reader, StoreError};

/// How often the store is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How many pages may listen at once.
const LISTENERS: usize = 64;
/// Names that wait for a slow listener; one that misses some is told `all`.
const WAITING: usize = 64;

/// The listeners, and whether somebody looks for them.
#[derive(Clone)]
pub(super) struct Live {
    sender: broadcast::Sender<Arc<str>>,
    watched: Arc<Mutex<bool>>,
    places: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(WAITING);
        Self { sender, watched: Arc::default(), places: Arc::new(Semaphore::new(LISTENERS)) }
    }
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/live", get(listen)).layer(Extension(Live::default()))
}

async fn listen(State(app): State<Arc<App>>, Extension(live): Extension<Live>) -> Response {
    let Ok(place) = Arc::clone(&live.places).try_acquire_owned() else {
        let why = format!("{LISTENERS} pages listen already; this one is up to date when it is loaded again\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], why).into_response();
    };
    let receiver = live.subscribe(app);
    let events = stream::unfold((receiver, place), next);
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

/// The next name; the place is given back when the page goes away.
async fn next(
    (mut receiver, place): (broadcast::Receiver<Arc<str>>, OwnedSemaphorePermit),
) -> Option<(Result<Event, Infallible>, (broadcast::Receiver<Arc<str>>, OwnedSemaphorePermit))> {
    let name = match receiver.recv().await {
        Ok(name) => name,
        Err(broadcast::error::RecvError::Lagged(_)) => "all".into(),
        Err(broadcast::error::RecvError::Closed) => return None,
    };
    Some((Ok(Event::default().event("change").data(name)), (receiver, place)))
}

impl Live {
    fn subscribe(&self, app: Arc<App>) -> broadcast::Receiver<Arc<str>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        if !*watched {
            *watched = true;
            tokio::spawn(self.clone().watch(app));
        }
        receiver
    }

    /// Looks at the store until nobody listens any more.
    async fn watch(self, app: Arc<App>) {
        // However it ends, the next listener starts another.
        let mut ended = Unwatched { watched: Arc::clone(&self.watched), done: false };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known: Option<Marks> = None;
        loop {
            ticks.tick().await;
            {
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                if self.sender.receiver_count() == 0 {
                    *watched = false;
                    ended.done = true;
                    return;
                }
            }
            // A store that is busy now is asked again soon; a broken one shows on every page that is loaded.
            let Ok(marks) = app.read::<_, StoreError>(Reader::marks).await else { continue };
            for name in known.as_ref().map(|known| changed(known, &marks)).unwrap_or_default() {
                // Nobody listening is no error.
                let _ = self.sender.send(name);
            }
            known = Some(marks);
        }
    }
}

/// Says that nobody watches, when the watch ends in any other way than by its own decision: a panic of a reader.
struct Unwatched {
    watched: Arc<Mutex<bool>>,
    done: bool,
}

impl Drop for Unwatched {
    fn drop(&mut self) {
        if !self.done {
            *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}

/// The names of what differs.
fn changed(before: &Marks, after: &Marks) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    if before.runs != after.runs {
        names.push("runs".into());
        let known: HashMap<&str, u64> = before.runs.iter().map(|(id, mark)| (id.as_str(), *mark)).collect();
        let new = after.runs.iter().filter(|(id, mark)| known.get(id.as_str()) != Some(mark));
        names.extend(new.map(|(id, _)| Arc::from(format!("run:{id}"))));
        let left: HashMap<&str, u64> = after.runs.iter().map(|(id, mark)| (id.as_str(), *mark)).collect();
        let gone = before.runs.iter().filter(|(id, _)| !left.contains_key(id.as_str()));
        names.extend(gone.map(|(id, _)| Arc::from(format!("run:{id}"))));
    }
    if before.traces != after.traces {
        names.push("traces".into());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_differs() {
        let marks = |runs: &[(&str, u64)], traces| Marks {
            runs: runs.iter().map(|(id, mark)| ((*id).to_owned(), *mark)).collect(),
            traces,
        };
        let names = |before: &Marks, after: &Marks| {
            changed(before, after).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let first = marks(&[("a", 1), ("b", 2)], 7);
        assert_eq!(names(&first, &first), "");
        assert_eq!(names(&first, &marks(&[("a", 1), ("b", 3), ("c", 1)], 7)), "runs run:b run:c");
        assert_eq!(names(&first, &marks(&[("b", 2)], 8)), "runs run:a traces");
        assert_eq!(names(&first, &marks(&[("a", 1), ("b", 2)], 8)), "traces");
    }
}
