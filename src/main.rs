//! The `spanscore` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    spanscore::cli::run()
}
