//! The pages: one view model each for HTML, `?format=json` and the terminal command.
//!
//! [`layout`] is what all pages share, [`errors`] are pages too, [`link`] writes addresses. Each other module is one screen
//! with its own `routes()`; all of them read the store through [`App::read`]; nothing is written but `setup`'s test
//! span. Pages work without scripts, and the address is the whole state of a page.

pub mod errors;
pub mod layout;
pub mod link;

mod cache;
mod case;
mod cases;
mod compare;
mod front;
mod health;
mod judged;
mod live;
mod parts;
mod run;
mod runs;
mod setup;
mod trace;
mod trace_diff;
mod traces;
mod trends;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;

use super::App;
use super::assets;

pub use crate::report::html::svg;
pub use errors::PageError;
pub use layout::{Nav, PageContext, page};

/// What a handler of a page gives back.
pub type PageResult = Result<axum::response::Response, PageError>;

/// All pages and the files that they load.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .merge(front::routes())
        .merge(runs::routes())
        .merge(run::routes())
        .merge(cases::routes())
        .merge(case::routes())
        .merge(compare::routes())
        .merge(traces::routes())
        .merge(trace::routes())
        .merge(trace_diff::routes())
        .merge(trends::routes())
        .merge(health::routes())
        .merge(live::routes())
        .merge(setup::routes())
        .merge(assets::routes())
        .fallback(errors::nothing_here)
        .layer(axum::Extension(cache::Cache::default()))
        .layer(axum::middleware::from_fn(errors::show))
}
