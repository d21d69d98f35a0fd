use super::*;

const PEER: NodeKey = NodeKey([1; 32]);
const OTHER: NodeKey = NodeKey([2; 32]);

fn nobody() -> BTreeSet<NodeKey> {
    BTreeSet::new()
}

#[test]
fn a_peer_is_dialled_once_at_a_time() {
    let mut redial = Redial::default();
    assert!(redial.is_empty() && redial.next_ms().is_none());
    redial.want(PEER, 100);
    redial.want(PEER, 50);
    assert_eq!(redial.next_ms(), Some(100), "wanting it again changes nothing");
    assert_eq!(redial.due(99, &nobody()), []);
    assert_eq!(redial.due(100, &nobody()), [PEER]);
    assert_eq!((redial.due(1 << 40, &nobody()), redial.next_ms()), (vec![], None));
    redial.linked(&PEER, 7);
    assert_eq!((redial.due(1 << 40, &nobody()), redial.next_ms()), (vec![], None));
    assert!(!redial.is_empty());
}

#[test]
fn waits_grow_up_to_a_minute_and_begin_anew_after_a_link() {
    let mut redial = Redial::default();
    redial.want(PEER, 0);
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert_eq!(redial.due(now, &nobody()), [PEER]);
        redial.retry(&PEER, None, now);
        let next = redial.next_ms().unwrap();
        waits.push(next - now);
        now = next;
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    redial.linked(&PEER, 7);
    redial.retry(&PEER, Some(7), now);
    assert_eq!(redial.next_ms(), Some(now + 1_000));
}

#[test]
fn the_end_of_another_link_does_not_matter() {
    let mut redial = Redial::default();
    redial.want(PEER, 0);
    redial.due(0, &nobody());
    redial.linked(&PEER, 7);
    redial.retry(&PEER, Some(6), 10);
    assert_eq!(redial.next_ms(), None, "the link that counts is up");
    redial.look_soon(&PEER, 10);
    assert_eq!(redial.next_ms(), None);
    // Nor do peers that nobody wants.
    for link in [None, Some(7)] {
        redial.retry(&OTHER, link, 10);
    }
    redial.linked(&OTHER, 8);
    redial.look_soon(&OTHER, 10);
    assert_eq!(redial.next_ms(), None);
}

#[test]
fn who_has_called_is_not_dialled_but_soon_after_it_is_gone() {
    let mut redial = Redial::default();
    redial.want(PEER, 0);
    redial.want(OTHER, 0);
    let linked = BTreeSet::from([PEER]);
    let mut now = 0;
    for _ in 0..8 {
        let due = redial.due(now, &linked);
        assert!(!due.contains(&PEER), "it is linked by its own call");
        now += 60_000;
    }
    // Its own link ends: this machine looks within a second, whatever it has waited for before.
    let far = redial.next_ms().unwrap();
    redial.look_soon(&PEER, now);
    assert_eq!(redial.next_ms(), Some(far.min(now + 1_000)));
    assert_eq!(redial.due(now + 1_000, &nobody()), [PEER]);
}
