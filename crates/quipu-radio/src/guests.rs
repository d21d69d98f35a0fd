//! Others who use the helper beside this machine's own streams: a gateway to another kind of mesh.
//!
//! A [`Guest`](crate::Guest) speaks the helper's protocol itself (`docs/formats/link-helper.md`): it gives the helper
//! identities, registers destinations of any name, announces any data, opens links to any address that it
//! heard, and sends packets and resources. It sees what concerns its own destinations and links, and the
//! interfaces; nothing else.
//!
//! Numbers of identities, destinations and requests are the guest's own, below [`NUMBERS`]. After
//! [`Guest::events`](crate::Guest::events) gives [`GuestEvent::HelperUp`] a guest says everything again: the helper is new, and
//! all links are gone. What guests send pays for its airtime: it waits for its turn, and if it can never have one, or too much
//! waits, the answer is [`FromHelper::Failed`] or [`FromHelper::OpenFailed`] with the reason. Of announces that wait the latest goes.
//!
//! ```ignore
//! let guest = radio.guest();
//! for event in guest.events() {
//!     match event {
//!         GuestEvent::HelperUp => {
//!             guest.say(ToHelper::Identity { identity: 1, private });
//!             guest.say(ToHelper::Register { destination: 1, identity: 1, app, aspects });
//!         }
//!         GuestEvent::Said(FromHelper::Heard { address, data, .. }) => { /* open a link */ }
//!         GuestEvent::Said(_) | GuestEvent::HelperGone => {}
//!     }
//! }
//! ```

use std::collections::BTreeMap;

use quipu_helper::{FromHelper, LinkName, ToHelper};

/// How many numbers each guest has. The machine itself has the first ones.
pub const NUMBERS: u32 = 1 << 20;

/// What a guest is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// A helper runs. It knows nothing yet.
    HelperUp,
    /// It does not run any more, and all links are gone.
    HelperGone,
    /// It says something.
    Said(FromHelper),
}

/// Who gets what: guests by number, from 1; 0 is the machine itself.
#[derive(Debug, Default)]
pub(crate) struct Router {
    links: BTreeMap<LinkName, u32>,
}

fn base(guest: u32) -> u32 {
    guest.saturating_mul(NUMBERS)
}

impl Router {
    /// Whatever was known of links is gone.
    pub(crate) fn clear(&mut self) {
        self.links.clear();
    }

    /// A guest's message, in the numbers of all. Nothing if it speaks of what is not its own.
    pub(crate) fn out(&self, guest: u32, mut message: ToHelper) -> Option<ToHelper> {
        let offset = |number: &mut u32| {
            let fits = *number < NUMBERS;
            *number = number.wrapping_add(base(guest));
            fits
        };
        let fits = match &mut message {
            ToHelper::Hello { .. } | ToHelper::Bye {} => false,
            ToHelper::Identity { identity, .. } => offset(identity),
            ToHelper::Register { destination, identity, .. } => {
                offset(destination) && offset(identity)
            }
            ToHelper::Announce { destination, .. } => offset(destination),
            ToHelper::Open { request, identity, .. } => {
                let fits = *request < u64::from(NUMBERS);
                *request += u64::from(base(guest)) << 32;
                fits && identity.as_mut().is_none_or(offset)
            }
            ToHelper::Packet { link, .. }
            | ToHelper::Resource { link, .. }
            | ToHelper::Close { link } => self.links.get(link) == Some(&guest),
            ToHelper::Look {} => true,
        };
        fits.then_some(message)
    }

    /// Whose a message is, and the message in its numbers. Nothing in the place of whose it is: everybody's.
    pub(crate) fn inn(&mut self, mut message: FromHelper) -> (Option<u32>, FromHelper) {
        let whose = match &mut message {
            FromHelper::Identity { identity: number, .. }
            | FromHelper::Registered { destination: number, .. }
            | FromHelper::Heard { destination: number, .. } => Some(own(number)),
            FromHelper::LinkUp { link, request, destination, .. } => {
                let whose = match (request, destination) {
                    (Some(request), _) => own_request(request),
                    (None, Some(destination)) => own(destination),
                    (None, None) => 0,
                };
                self.links.insert(link.clone(), whose);
                Some(whose)
            }
            FromHelper::OpenFailed { request, .. } => Some(own_request(request)),
            FromHelper::LinkDown { link, .. } => Some(self.links.remove(link).unwrap_or(0)),
            FromHelper::LinkPeer { link, .. }
            | FromHelper::Packet { link, .. }
            | FromHelper::Sent { link, .. }
            | FromHelper::Delivered { link, .. }
            | FromHelper::Failed { link, .. }
            | FromHelper::Incoming { link, .. }
            | FromHelper::Resource { link, .. } => Some(self.links.get(link).copied().unwrap_or(0)),
            FromHelper::Hello { .. } | FromHelper::Error { .. } | FromHelper::Bye { .. } => Some(0),
            FromHelper::Interfaces { .. } => None,
        };
        (whose, message)
    }
}

fn own(number: &mut u32) -> u32 {
    let whose = *number / NUMBERS;
    *number %= NUMBERS;
    whose
}

fn own_request(request: &mut u64) -> u32 {
    let whose = u32::try_from(*request >> 32).unwrap_or(u32::MAX) / NUMBERS;
    *request &= u64::from(u32::MAX);
    whose
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(router: &mut Router, request: Option<u64>, destination: Option<u32>) -> Option<u32> {
        let link = vec![request.unwrap_or(7) as u8];
        let message = FromHelper::LinkUp {
            link,
            request,
            destination,
            packet_max: 431,
            resource_max: 0,
            rtt_ms: 1,
        };
        router.inn(message).0
    }

    #[test]
    fn each_hears_of_its_own() {
        let mut router = Router::default();
        let open = ToHelper::Open { request: 5, address: [1; 16], identity: Some(2) };
        let ToHelper::Open { request, identity, .. } = router.out(3, open).unwrap() else {
            panic!("another message")
        };
        assert_eq!(identity, Some(3 * NUMBERS + 2));
        assert_eq!(up(&mut router, Some(request), None), Some(3));
        assert_eq!(up(&mut router, Some(9), None), Some(0));
        assert_eq!(up(&mut router, None, Some(NUMBERS + 1)), Some(1));

        let failed = FromHelper::OpenFailed { request, reason: String::new() };
        let (whose, message) = router.inn(failed);
        assert_eq!(whose, Some(3));
        assert_eq!(message, FromHelper::OpenFailed { request: 5, reason: String::new() });
    }

    #[test]
    fn nobody_touches_links_of_others() {
        let mut router = Router::default();
        up(&mut router, None, Some(0));
        let close = ToHelper::Close { link: vec![7] };
        assert_eq!(router.out(1, close.clone()), None);
        let down = FromHelper::LinkDown { link: vec![7], closed: true, reason: String::new() };
        assert_eq!(router.inn(down).0, Some(0));
        up(&mut router, None, Some(NUMBERS));
        assert_eq!(router.out(1, close.clone()), Some(close));
        assert_eq!(router.out(1, ToHelper::Bye {}), None);
        let greedy = ToHelper::Announce { destination: NUMBERS, data: Vec::new() };
        assert_eq!(router.out(1, greedy), None);
    }
}
