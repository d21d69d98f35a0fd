use proptest::prelude::*;

use super::*;

fn medium(packet_max: usize, resource_max: usize) -> Medium {
    Medium { packet_max, resource_max, rtt_ms: 100, bitrate: Some(10_000) }
}

/// A way that loses, doubles, reorders and is cut, as the bytes of `fate` say.
struct Way {
    fate: Vec<u8>,
    at: usize,
}

impl Way {
    fn next(&mut self) -> u8 {
        self.at += 1;
        // In the end the way is good, or nothing would ever arrive.
        if self.at > 4 * self.fate.len() { 255 } else { self.fate[self.at % self.fate.len()] }
    }
}

/// Lets two ends talk until both are quiet. Gives what arrived at each, by class.
fn talk(ends: &mut [Stream; 2], medium: &Medium, way: &mut Way) -> [Vec<Vec<u8>>; 2] {
    let mut now = 0;
    let mut got = [Vec::new(), Vec::new()];
    let mut flying: Vec<(usize, Outgoing)> = Vec::new();
    for _ in 0..50_000 {
        now += 50;
        for (from, end) in ends.iter_mut().enumerate() {
            end.on_time(now);
            while let Some(outgoing) = end.next(now, medium, |_, _| true) {
                assert!(outgoing.resource || outgoing.bytes.len() <= medium.packet_max);
                if !outgoing.resource {
                    end.left(now, outgoing.number, medium);
                }
                flying.push((from, outgoing));
            }
        }
        if flying.is_empty() {
            if ends.iter().all(Stream::is_quiet) {
                return got;
            }
            continue;
        }
        let fate = way.next();
        let pick = usize::from(fate) % flying.len();
        let (from, outgoing) = if fate < 40 { flying[pick].clone() } else { flying.remove(pick) };
        match fate {
            // Lost.
            100..130 if !outgoing.resource => continue,
            100..130 => {
                ends[from].failed(outgoing.number);
                continue;
            }
            // The link is cut, and there is another one.
            130..134 => {
                flying.clear();
                let places = [ends[0].places(), ends[1].places()];
                ends[0].resume(places[1]).unwrap();
                ends[1].resume(places[0]).unwrap();
                continue;
            }
            _ => {}
        }
        let frames = ends[1 - from].take(now, &outgoing.bytes, outgoing.resource, medium).unwrap();
        got[1 - from].extend(frames);
        if outgoing.resource {
            ends[from].arrived(outgoing.number);
        }
    }
    panic!("it does not end: {ends:?}");
}

fn of_class(frames: &[Vec<u8>], class: usize) -> Vec<&Vec<u8>> {
    frames.iter().filter(|frame| class_of(frame) == class).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_arrive_whole_once_and_in_order(
        fate in prop::collection::vec(any::<u8>(), 1..200),
        sizes in prop::collection::vec((0u8..3, 0usize..3_000), 1..12),
        packet_max in 200usize..2_000,
        resources in any::<bool>(),
    ) {
        let medium = medium(packet_max, if resources { 4_000 } else { 0 });
        let mut ends = [Stream::default(), Stream::default()];
        let mut sent = [Vec::new(), Vec::new()];
        for (index, (class, size)) in sizes.iter().enumerate() {
            let mut frame = vec![[1, 17, 20][usize::from(*class)]];
            frame.extend((0..*size).map(|at| (at * 7 + index) as u8));
            ends[index % 2].push(&frame).unwrap();
            sent[index % 2].push(frame);
        }
        let got = talk(&mut ends, &medium, &mut Way { fate, at: 0 });
        for class in 0..CLASSES {
            prop_assert_eq!(of_class(&got[1], class), of_class(&sent[0], class));
            prop_assert_eq!(of_class(&got[0], class), of_class(&sent[1], class));
        }
        let all: usize = sent[0].iter().map(Vec::len).sum();
        prop_assert_eq!(ends[0].written(), all as u64);
    }

    #[test]
    fn garbage_does_no_harm(messages in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..60), 0..20,
    )) {
        let mut stream = Stream::default();
        stream.push(&[1; 500]).unwrap();
        let medium = medium(600, 4_000);
        for (at, mut message) in messages.into_iter().enumerate() {
            if let Some(head) = message.first_mut() {
                *head = MESSAGE | (*head & 0x0f);
            }
            let _any = stream.take(at as u64, &message, false, &medium);
            let _any = stream.next(at as u64, &medium, |_, _| true);
        }
        prop_assert!(stream.queued() <= 502);
    }
}

#[test]
fn what_is_urgent_goes_first_also_while_a_resource_moves() {
    let medium = medium(700, 4_000);
    let mut stream = Stream::default();
    stream.push(&vec![20; 100_000]).unwrap();
    let part = stream.next(0, &medium, |_, _| true).unwrap();
    assert!(part.resource);
    assert_eq!(part.class, Some(2));
    assert_eq!(stream.next(0, &medium, |_, _| true), None);
    stream.push(&[10; 300]).unwrap();
    let record = stream.next(0, &medium, |_, _| true).unwrap();
    assert_eq!((record.resource, record.class), (false, Some(0)));
}

#[test]
fn a_budget_holds_a_class_back() {
    let medium = medium(700, 0);
    let mut stream = Stream::default();
    stream.push(&[20; 100]).unwrap();
    assert_eq!(stream.next(0, &medium, |class, _| class < 2), None);
    stream.push(&[10; 100]).unwrap();
    let next = stream.next(0, &medium, |class, _| class < 2).unwrap();
    assert_eq!(next.class, Some(0));
}

#[test]
fn an_end_that_forgot_is_noticed() {
    let medium = medium(700, 0);
    let mut ends = [Stream::default(), Stream::default()];
    ends[0].push(&[1; 100]).unwrap();
    talk(&mut ends, &medium, &mut Way { fate: vec![255], at: 0 });
    assert_eq!(ends[0].resume([0; CLASSES]), Err(StreamError::Lost));
}

#[test]
fn too_much_is_stuck() {
    let mut stream = Stream::default();
    let frame = vec![20; 1 << 20];
    let stuck = (0..9).find_map(|_| stream.push(&frame).err());
    assert!(matches!(stuck, Some(StreamError::Stuck(_))));
}
