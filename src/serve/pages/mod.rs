//! The pages: one view model each for HTML, `?format=json` and the terminal command.
