//! The pages: one view model each for HTML, `?format=json` and the terminal command.

use std::sync::Arc;

use axum::Router;

use super::App;

/// All pages.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
}
