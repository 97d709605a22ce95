//! The only memory: one SQLite file that runs write and everything else reads.

pub mod rows;
