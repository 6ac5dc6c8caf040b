//! AMQP 1.0, sans-io: types, codec, frames, SASL, and the engine of connections, sessions, links and deliveries.
//!
//! [`Connection`] is the door; the rest is its vocabulary. What of AMQP a router network uses, and how, is `docs/wire.md`.

mod codec;
mod connection;
mod delivery;
mod frame;
pub mod limits;
mod link;
mod outcome;
mod performative;
mod sasl;
mod session;
mod terminus;
mod value;

pub use codec::{Composer, Decode, DecodeError, Encode, Fields, Reader};
pub(crate) use codec::{encode_list, encode_map, put_list};
pub use connection::{Admission, Config, Connection, Error, Event, LinkId, NewLink};
pub use delivery::{DeliveryId, DeliveryTag};
pub use frame::FrameError;
pub use link::{LinkStatus, Token};
pub use outcome::{Condition, DeliveryState};
pub use performative::{Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Role, Transfer};
pub use sasl::{Claim, Login, Mechanism, Password, Secret};
pub use terminus::{Source, Target};
pub use value::{Symbol, Value};
