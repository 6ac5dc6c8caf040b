//! The commands of `van` as a user meets them: every message is compared as it is seen.
//!
//! No controller runs here but in `journey` and `bench`. Where else one is needed, a test holds its lock and writes what it would write.

mod bench;
mod input;
mod journey;
mod link;
mod redeem;
mod routed;
mod site;
mod spelling;
mod system;
mod token;
mod waiting;
mod world;
