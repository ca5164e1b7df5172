//! The `headstart` command.
#![forbid(unsafe_code)]

fn main() {}
