//! Tickets: what is written is read back, and nothing else is taken for a ticket.

use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE32_NOPAD;
use proptest::prelude::*;
use quipu_net::ticket::{ADDRS_MAX, PREFIX};
use quipu_net::{Ticket, TicketError};

fn sample() -> Ticket {
    Ticket {
        domain: [1; 32],
        node: [2; 32],
        addrs: vec!["192.168.1.20:4433".parse().unwrap(), "[fe80::1]:4433".parse().unwrap()],
        invite: Some([0x5e; 32]),
    }
}

fn text_of(body: &[u8]) -> String {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&blake3::hash(body).as_bytes()[..4]);
    format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

fn any_ticket() -> impl Strategy<Value = Ticket> {
    let addr = any::<(IpAddr, u16)>().prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let addrs = prop::collection::vec(addr, 0..=ADDRS_MAX);
    (any::<[u8; 32]>(), any::<[u8; 32]>(), addrs, any::<Option<[u8; 32]>>())
        .prop_map(|(domain, node, addrs, invite)| Ticket { domain, node, addrs, invite })
}

proptest! {
    #[test]
    fn written_and_read_back(ticket in any_ticket()) {
        let text = ticket.to_string();
        prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        prop_assert_eq!(text.parse::<Ticket>(), Ok(ticket));
    }

    #[test]
    fn any_text_is_refused_without_panic(text in ".{0,200}") {
        prop_assert!(text.parse::<Ticket>().is_err());
    }

    #[test]
    fn any_text_after_the_prefix_is_refused(text in "[a-z2-7]{0,200}") {
        let parsed = format!("{PREFIX}{text}").parse::<Ticket>();
        prop_assert_eq!(parsed, Err(TicketError::Damaged));
    }

    #[test]
    fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = text_of(&body);
        if let Ok(ticket) = text.parse::<Ticket>() {
            prop_assert_eq!(ticket.to_string(), text);
        }
    }

    #[test]
    fn one_wrong_character_is_noticed(
        ticket in any_ticket(), place in any::<prop::sample::Index>(), wrong in "[a-z2-7]",
    ) {
        let mut text = ticket.to_string();
        let at = PREFIX.len() + place.index(text.len() - PREFIX.len());
        prop_assume!(text[at..=at] != wrong);
        text.replace_range(at..=at, &wrong);
        prop_assert_eq!(text.parse::<Ticket>(), Err(TicketError::Damaged));
    }

    #[test]
    fn a_cut_ticket_is_noticed(ticket in any_ticket(), place in any::<prop::sample::Index>()) {
        let text = ticket.to_string();
        let at = PREFIX.len() + place.index(text.len() - PREFIX.len());
        prop_assert_eq!(text[..at].parse::<Ticket>(), Err(TicketError::Damaged));
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let text = sample().to_string();
    assert_eq!("hello".parse::<Ticket>(), Err(TicketError::NotATicket));
    assert_eq!("".parse::<Ticket>(), Err(TicketError::NotATicket));
    assert_eq!(text.to_uppercase().parse::<Ticket>(), Err(TicketError::NotATicket));
    assert_eq!(
        text_of(&[2, 9, 9]).parse(),
        Err::<Ticket, _>(TicketError::UnknownVersion { version: 2 })
    );
    assert_eq!(text_of(&[]).parse::<Ticket>(), Err(TicketError::Damaged));
    let short = TicketError::Malformed { what: "too short" };
    assert_eq!(text_of(&[1, 9]).parse::<Ticket>(), Err(short));
}

#[test]
fn white_space_around_is_ignored_but_not_inside() {
    let text = sample().to_string();
    assert_eq!(format!(" {text}\r\n").parse(), Ok(sample()));
    let broken = format!("{} {}", &text[..40], &text[40..]);
    assert_eq!(broken.parse::<Ticket>(), Err(TicketError::Damaged));
}

#[test]
fn the_text_is_stable() {
    let ticket = Ticket { domain: [0; 32], node: [0; 32], addrs: Vec::new(), invite: None };
    let zeros = "a".repeat(105);
    let text = ticket.to_string();
    assert!(text.starts_with(&format!("quipu1ae{}", &zeros[..103])), "{text}");
    assert_eq!(text.len(), PREFIX.len() + (71 * 8usize).div_ceil(5));
}

#[test]
fn debug_keeps_the_secret() {
    let shown = format!("{:?}", sample());
    assert!(!shown.contains("5e5e") && !shown.contains("94, 94"), "{shown}");
    assert!(shown.contains("invite: Some(\"secret\")"), "{shown}");
}

#[test]
fn addresses_above_the_limit_are_left_out() {
    let addr: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let ticket = Ticket { addrs: vec![addr; ADDRS_MAX + 1], ..sample() };
    let read: Ticket = ticket.to_string().parse().unwrap();
    assert_eq!(read.addrs.len(), ADDRS_MAX);
}
