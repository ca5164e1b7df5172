//! The server over real sockets of this machine, as one program of tests: each file is a subject.

mod begin;
mod end;
mod limits;
mod look;
mod nearby;
mod page;
mod predict;
mod protocol;
mod runs;
mod safety;
mod support;
mod swap;
