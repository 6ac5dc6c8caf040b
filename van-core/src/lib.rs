//! The pure core of a VAN router.

pub mod address;
pub mod amqp;
pub mod annotations;
pub mod encapsulation;
pub mod management;
pub mod message;
pub mod plane;
mod random;
pub mod router;
#[cfg(feature = "sim")]
pub mod sim;
mod slab;

pub use random::Random;
