//! A large trace comes in pieces: its head at once, for that is one row of the store, the rows in sight when its outline has
//! been read, then the others. A person sees what the trace is while a hundred thousand spans are put into their tree.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use maud::{Markup, html};

use super::scene::View;
use super::window::WHOLE;
use super::{Subject, head, rest, spec_of, title, yardstick_of};
use crate::model::{SpanId, TraceId};
use crate::serve::App;
use crate::serve::pages::layout;
use crate::serve::pages::{Nav, PageContext, PageError};
use crate::store::Reader;

/// So many bytes of rows fill the window.
const SIGHT: usize = 24 << 10;
/// How long a browser is given to paint them: one that gets all rows at once lays all of them out before it paints any,
/// which takes it more than twice as long.
const PAUSE: Duration = Duration::from_millis(20);

/// A page whose first piece is there.
pub(super) struct Begun {
    first: String,
    last: String,
}

/// The first piece of the page of a large trace. `None` where the page is to be made whole: of small traces, and where the
/// address asks for something that may turn out not to exist, for then the status is not known yet.
pub(super) fn begin(reader: &Reader, trace_id: TraceId, context: &PageContext) -> Result<Option<Begun>, PageError> {
    View::of(context)?;
    let row = reader.trace_row(trace_id)?;
    let named = context.parameter("span").map(str::parse::<SpanId>);
    if row.operations <= WHOLE as u64 || matches!(named, Some(Err(_))) {
        return Ok(None);
    }
    let span = named.and_then(Result::ok);
    if let Some(span) = span
        && reader.span(trace_id, span).is_err()
    {
        return Ok(None);
    }
    let spec = spec_of(reader, &row)?;
    let yardstick = yardstick_of(spec.as_ref());
    let body = head(context, &Subject::of(&row, spec.as_ref(), &yardstick), span);
    let (first, last) = layout::pieces(context, &title(&trace_id.to_string()), Nav::Traces, &body);
    Ok(Some(Begun { first, last }))
}

impl Begun {
    /// The page; what is missing is read while the first piece is on its way.
    pub(super) fn response(self, app: Arc<App>, id: String, context: PageContext) -> Response {
        let Self { first, last } = self;
        let second = async move {
            let read = app.read(move |reader| rest(reader, &id, &context).map(|(_, _, markup)| markup)).await;
            at_first_sight(read.unwrap_or_else(|error| broken(&error)).into_string() + &last)
        };
        let rest = stream::once(second).flat_map(|(seen, below)| {
            let below = async move {
                if !below.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
                below
            };
            stream::once(std::future::ready(seen)).chain(stream::once(below))
        });
        let pieces = stream::once(std::future::ready(first)).chain(rest);
        let body = Body::from_stream(pieces.map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece))));
        let head = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
        (head, body).into_response()
    }
}

/// What is in sight at first, and what is below it, cut between two rows.
fn at_first_sight(mut rest: String) -> (String, String) {
    let start = rest.floor_char_boundary(SIGHT);
    let row = rest.get(start..).and_then(|behind| behind.find("<tr data-row"));
    let below = rest.split_off(row.map_or(rest.len(), |row| start + row));
    (rest, below)
}

/// The head is sent, so the error stands below it: the trace was pruned in between, or the store cannot be read.
fn broken(error: &PageError) -> Markup {
    html! { p.notice.error role="alert" { (layout::text(&error.message)) } }
}
