//! Links over small and slow media: Reticulum by a helper program, or whatever another helper offers.
//!
//! [`Radio`] runs a helper (`docs/formats/link-helper.md`) and offers the machines that it hears as links of
//! the driver. Frames travel in a [`Stream`](stream::Stream) (`docs/formats/radio-stream.md`), in fragments,
//! the urgent ones first, within the airtime that each interface may use ([`airtime`]). Who is at the other
//! end is proven by a signature over the link's name. [`guests`] is for others who use the same helper.
//!
//! *Invariant*: everything but `helper.rs` and `radio.rs` is pure: no IO, no clock.

pub mod airtime;
mod association;
pub mod beacon;
mod greeting;
pub mod guests;
mod helper;
mod inlet;
mod lane;
pub mod limits;
mod neighbours;
mod radio;
pub mod station;
pub mod stream;

pub use guests::{GuestEvent, NUMBERS};
pub use helper::{HELPER_VAR, HelperError, find};
pub use radio::{Both, Guest, Guests, Options, Radio, Report, Voice};
pub use station::Settings;
