//! The `spanscore` command.

use std::process::ExitCode;

/// A run makes and drops some hundred small values per trial, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    spanscore::cli::run()
}
