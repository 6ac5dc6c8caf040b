//! The site of a namespace folder as its user meets it: files go in, statuses and log lines come out, streams go through.
//!
//! Controllers are processes of their own, everything is on the loopback, and no command is used at all.

mod crash;
mod input;
mod join;
mod place;
mod rig;
