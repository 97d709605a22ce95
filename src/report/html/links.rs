//! Where things lead. In the pages of `serve` a run, a case and a trace have pages; the report in one file has its own table,
//! and the user's trace backend where the suite has a template for that.

/// Addresses of things; `None` where there is nothing to lead to.
pub trait Links {
    /// A run.
    fn run(&self, id: &str) -> Option<String>;
    /// A case.
    fn case(&self, id: &str) -> Option<String>;
    /// A trace at a span; `head` tells whether it is of the run that the page is about.
    fn trace(&self, trace: &str, span: Option<&str>, head: bool) -> Option<String>;
    /// What differs between two traces.
    fn diff(&self, base: &str, head: &str) -> Option<String>;
    /// The cases with this change: `regressed`, `improved`, ….
    fn changed(&self, change: &str) -> Option<String>;
    /// The cases of a part of the dataset, as a query.
    fn part(&self, filter: &str) -> Option<String>;
}
