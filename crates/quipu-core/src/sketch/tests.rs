use super::*;
use proptest::prelude::*;

const KEY: [u8; 32] = [7; 32];

/// Item `n` of a family; different numbers give different items.
fn item(n: u64) -> Item {
    let mut bytes = [0; ITEM_BYTES];
    bytes.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..ITEM_BYTES]);
    Item(bytes)
}

fn items(range: Range<u64>) -> Vec<Item> {
    let mut all: Vec<_> = range.map(item).collect();
    all.sort();
    all
}

fn key(n: u64) -> [u8; 32] {
    *blake3::hash(&n.to_be_bytes()).as_bytes()
}

fn extended(sketch: &Sketch, items: &[Item]) -> Sketch {
    let mut sketch = sketch.clone();
    items.iter().for_each(|item| sketch.insert(*item));
    sketch
}

fn sketch_of(key: [u8; 32], items: &[Item]) -> Sketch {
    extended(&Sketch::new(key), items)
}

/// Symbols needed, pushing one at a time, and the decoder.
fn reconcile(remote: &Sketch, local: &Sketch) -> (usize, Decoder) {
    let mut decoder = Decoder::new(*local.key(), local);
    for symbol in remote.symbols(0..SYMBOLS_KEPT) {
        decoder.push(&[symbol]).unwrap();
        if decoder.is_decoded() {
            break;
        }
    }
    assert!(decoder.is_decoded() && !decoder.is_refused());
    (decoder.received(), decoder)
}

fn percentile(sorted: &[usize], percent: usize) -> usize {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

fn mean(all: &[usize]) -> f64 {
    all.iter().sum::<usize>() as f64 / all.len() as f64
}

/// For people who tune: `cargo nextest run sketch --no-capture`.
#[expect(clippy::print_stderr)]
fn report(what: &str, mut all: Vec<usize>) {
    all.sort_unstable();
    let [half, p95, p99] = [50, 95, 99].map(|p| percentile(&all, p));
    eprintln!("{what}: mean {:.1}, 50% {half}, 95% {p95}, 99% {p99}", mean(&all));
}

#[test]
fn differences_of_large_sets_decode() {
    let common = sketch_of(KEY, &items(0..100_000));
    for (remote_only, local_only) in
        [(0, 0), (1, 0), (0, 1), (1, 1), (10, 0), (3, 7), (200, 0), (120, 80), (250, 250), (0, 500)]
    {
        let remote_only = items(200_000..200_000 + remote_only);
        let local_only = items(300_000..300_000 + local_only);
        let remote = extended(&common, &remote_only);
        let local = extended(&common, &local_only);
        let (received, decoder) = reconcile(&remote, &local);
        assert_eq!(decoder.result(), (remote_only, local_only));
        // All at once gives the same.
        let mut at_once = Decoder::new(KEY, &local);
        at_once.push(&remote.symbols(0..received)).unwrap();
        assert!(at_once.is_decoded());
        assert_eq!(at_once.result(), decoder.result());
    }
}

#[test]
fn symbols_needed_for_each_difference() {
    // Differences, trials, most symbols for each difference in the mean. Items that both sides
    // have cancel out, so there are none here.
    for (d, trials, most) in
        [(1, 300, 1.0), (2, 300, 2.0), (20, 300, 1.8), (100, 300, 1.6), (200, 300, 1.55)]
    {
        let needed: Vec<usize> = (0..trials)
            .map(|trial| {
                let [remote, local] =
                    [items(0..d / 2), items(d / 2..d)].map(|side| sketch_of(key(trial), &side));
                reconcile(&remote, &local).0
            })
            .collect();
        let overhead = mean(&needed) / d as f64;
        report(&format!("d={d}: {overhead:.3} symbols for each difference; symbols"), needed);
        assert!(overhead <= most, "d={d}: {overhead}");
    }
}

#[test]
fn bytes_for_200_differences_of_100_000() {
    let common = sketch_of(KEY, &items(0..100_000));
    let bytes: Vec<usize> = (0..300)
        .map(|trial| {
            let start = 1_000_000 + 1000 * trial;
            let remote = extended(&common, &items(start..start + 100));
            let local = extended(&common, &items(start + 100..start + 200));
            let (received, _) = reconcile(&remote, &local);
            encode_symbols(&remote.symbols(0..received), 0, remote.set_size()).len()
        })
        .collect();
    assert!(mean(&bytes) < 4_200.0, "{}", mean(&bytes));
    report("bytes for d=200 of 100 000", bytes);
}

#[test]
fn changes_one_by_one_equal_a_fresh_sketch() {
    let mut sketch = sketch_of(KEY, &items(0..300));
    items(100..250).into_iter().for_each(|item| sketch.remove(item));
    items(300..310).into_iter().for_each(|item| sketch.insert(item));
    let mut left = items(0..100);
    left.extend(items(250..310));
    left.reverse();
    assert_eq!(sketch, sketch_of(KEY, &left));
    assert_eq!(sketch.set_size(), 160);
    left.iter().for_each(|item| sketch.remove(*item));
    assert_eq!(sketch, Sketch::new(KEY));
}

#[test]
fn symbols_beyond_those_kept() {
    let (remote_only, local_only) = (items(0..700), items(700..1500));
    let (remote, local) = (sketch_of(KEY, &remote_only), sketch_of(KEY, &local_only));
    let extra = |items: &[Item], range| encode_extra(items.iter().copied(), &KEY, range);
    assert_eq!(extra(&remote_only, 0..SYMBOLS_KEPT), remote.symbols(0..SYMBOLS_KEPT));
    assert_eq!(extra(&remote_only, 900..SYMBOLS_KEPT), remote.symbols(900..5000));
    assert_eq!(remote.symbols(2000..3000), []);
    assert_eq!(extra(&remote_only, SYMBOLS_MAX..usize::MAX), []);

    let mut decoder = Decoder::new(KEY, &local);
    decoder.push(&remote.symbols(0..1000)).unwrap();
    let more = extra(&remote_only, 1000..3000);
    let missing = PushError::LocalMissing { remote: 3000, local: SYMBOLS_KEPT };
    assert_eq!(decoder.push(&more), Err(missing));
    assert_eq!(decoder.received(), 1000);
    decoder.extend_local(&extra(&local_only, decoder.local_symbols()..3000));
    decoder.push(&more).unwrap();
    assert!(decoder.is_decoded());
    assert_eq!(decoder.result(), (remote_only, local_only));
}

#[test]
fn items_map_as_they_always_did() {
    let (check, mut indices) = hash(&KEY, &item(1));
    let row: Vec<usize> = std::iter::from_fn(|| indices.below(100_000)).collect();
    let golden = [
        0, 5, 14, 32, 101, 120, 581, 733, 1602, 2039, 3269, 6991, 7611, 14_150, 43_450, 51_933,
        75_120, 98_105,
    ];
    assert_eq!(check, [137, 60, 89]);
    assert_eq!(row, golden);
}

#[test]
fn items_map_to_an_index_as_often_as_they_should() {
    const ITEMS: u64 = 20_000;
    let sketch = sketch_of(KEY, &items(0..ITEMS));
    for index in [0, 1, 2, 3, 10, 100, 1000] {
        let rho = 2.0 / (index as f64 + 2.0);
        let expected = ITEMS as f64 * rho;
        let off = f64::from(sketch.symbols[index].count) - expected;
        assert!(off.abs() <= 4.0 * (expected * (1.0 - rho)).sqrt(), "{index}: {off}");
    }
}

#[test]
fn the_next_index_is_what_exact_arithmetic_gives() {
    let one = 1u64 << 53;
    for at in [0, 1, 2, 10, 1000, 30_000, SYMBOLS_MAX as u64 - 1] {
        let some = (0..10_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) + 1);
        for u in some.chain([one / 2, one - 1, one]) {
            let next = next_index(at, u);
            let product = |j: u64| u128::from(j + 1) * u128::from(j + 2);
            let bound = product(at) * u128::from(one);
            assert!(next > at, "{at} {u}");
            assert!(product(next) * u128::from(u) > bound, "{at} {u}");
            assert!(next == at + 1 || product(next - 1) * u128::from(u) <= bound, "{at} {u}");
        }
    }
    assert!((0..100).all(|far| next_index(1 << 40, one - far) > 1 << 40));
    assert!(next_index(SYMBOLS_MAX as u64, 1) > SYMBOLS_MAX as u64);
}

#[test]
fn nothing_is_decoded_before_a_symbol_came_or_under_another_key() {
    let (remote, local) = (sketch_of(KEY, &items(0..5)), sketch_of(key(1), &items(0..6)));
    assert!(!Decoder::new(KEY, &Sketch::new(KEY)).is_decoded());
    let mut decoder = Decoder::new(KEY, &local);
    decoder.push(&remote.symbols(0..SYMBOLS_KEPT)).unwrap();
    assert!(!decoder.is_decoded());
}

/// What a false fit of the check would do: the false item is subtracted, and taken back later.
#[test]
fn a_false_item_is_taken_back() {
    let remote_only = items(0..50);
    let remote = sketch_of(KEY, &remote_only);
    let mut decoder = Decoder::new(KEY, &Sketch::new(KEY));
    let (check, mut indices) = hash(&KEY, &item(99));
    decoder.found.insert(item(99), 1);
    decoder.take_out(&mut indices, &item(99), check, 1);
    decoder.waiting.push(Reverse((indices, item(99), check, 1)));
    decoder.push(&remote.symbols(0..200)).unwrap();
    assert!(decoder.is_decoded());
    assert_eq!(decoder.result(), (remote_only, vec![]));
}

#[test]
fn an_item_twice_is_refused() {
    let mut twice = sketch_of(KEY, &items(0..3));
    twice.insert(item(0));
    // Symbols that hold the item once at some indices and once more at others.
    let once = sketch_of(KEY, &items(0..3));
    let mut mixed = twice.symbols(0..SYMBOLS_KEPT);
    mixed[..20].copy_from_slice(&once.symbols(0..20));
    let mut decoder = Decoder::new(KEY, &Sketch::new(KEY));
    decoder.push(&mixed).unwrap();
    assert!(!decoder.is_decoded() && decoder.is_refused());
    decoder.push(&[]).unwrap();
    assert!(!decoder.is_decoded());
}

/// The worst a peer that knows the key can do: every symbol is a valid single item, and taking it
/// out spoils the others.
#[test]
fn symbols_made_to_peel_for_long_terminate() {
    let mut hostile = Vec::new();
    let mut candidates = (0..).map(item);
    for index in 0..SYMBOLS_KEPT {
        let fitting = candidates.by_ref().find(|item| maps_to(hash(&KEY, item).1, index)).unwrap();
        let count = if index % 2 == 0 { 1 } else { -1 };
        hostile.push(Symbol { sum: fitting.0, check: hash(&KEY, &fitting).0, count });
    }
    for step in [1, 7, SYMBOLS_KEPT] {
        let mut decoder = Decoder::new(KEY, &Sketch::new(KEY));
        hostile.chunks(step).for_each(|symbols| decoder.push(symbols).unwrap());
        assert!(!decoder.is_decoded());
        assert!(decoder.waiting.len() <= 2 * SYMBOLS_KEPT);
        assert!(decoder.candidates.len() <= SYMBOLS_KEPT);
    }
}

fn any_symbol() -> impl Strategy<Value = Symbol> {
    let count = prop_oneof![Just(1), Just(-1), -300..300, any::<i32>()];
    // Half of them pass for a single item.
    (any::<[u8; ITEM_BYTES]>(), any::<Option<[u8; CHECK_BYTES]>>(), count).prop_map(
        |(sum, check, count)| Symbol {
            sum,
            check: check.unwrap_or_else(|| hash(&KEY, &Item(sum)).0),
            count,
        },
    )
}

proptest! {
    #[test]
    fn random_symbols_terminate(
        batches in prop::collection::vec(prop::collection::vec(any_symbol(), 0..60), 0..8),
    ) {
        let mut decoder = Decoder::new(KEY, &sketch_of(KEY, &items(0..20)));
        for batch in batches {
            decoder.push(&batch).unwrap();
            let nonzero = decoder.rest.iter().filter(|symbol| !symbol.is_zero()).count();
            prop_assert_eq!(decoder.nonzero, nonzero);
            prop_assert!(decoder.waiting.len() <= 2 * decoder.received());
            prop_assert!(decoder.candidates.len() <= decoder.received());
        }
    }

    #[test]
    fn the_wire_gives_back_what_was_sent(
        symbols in prop::collection::vec(any_symbol(), 0..40),
        start_index in 0..SYMBOLS_MAX - 40,
        set_size: u32,
    ) {
        let bytes = encode_symbols(&symbols, start_index, set_size);
        let most = symbols.len();
        prop_assert_eq!(decode_symbols(&bytes, most), Ok(Batch { start_index, set_size, symbols }));
        for end in 0..bytes.len() {
            prop_assert_eq!(decode_symbols(&bytes[..end], most), Err(WireError::Short));
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(decode_symbols(&longer, most), Err(WireError::Trailing(1)));
    }

    /// Nothing panics, and whatever decodes is the one encoding of what it decodes to.
    #[test]
    fn other_bytes_have_no_second_meaning(
        head in prop::collection::vec(prop_oneof![0u8..4, Just(0x80), any::<u8>()], 0..8),
        tail in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let bytes = [head, tail].concat();
        if let Ok(batch) = decode_symbols(&bytes, usize::MAX) {
            prop_assert_eq!(encode_symbols(&batch.symbols, batch.start_index, batch.set_size), bytes);
        }
    }
}

#[test]
fn bad_bytes_are_refused() {
    let symbol = |count: &[u8]| [&[0, 0, 1][..], &[9; ITEM_BYTES + CHECK_BYTES], count].concat();
    let cases: [(Vec<u8>, Result<i32, WireError>); 12] = [
        (symbol(&[2]), Ok(1)),
        (symbol(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN)),
        (symbol(&[0x80, 0x80, 0x80, 0x80, 0x10]), Err(WireError::Number)), // 2^31
        (symbol(&[0x82, 0x00]), Err(WireError::Number)),                   // over-long
        (symbol(&[0xff; 10]), Err(WireError::Number)),                     // above 64 bits
        (symbol(&[2, 0]), Err(WireError::Trailing(1))),
        (symbol(&[]), Err(WireError::Short)),
        (vec![0x80, 0x00, 0, 0], Err(WireError::Number)),
        (vec![0, 0x80, 0x80, 0x80, 0x80, 0x10, 0], Err(WireError::Number)), // set size 2^32
        (vec![0, 0, 0x80, 0x20], Err(WireError::TooMany(4096))),
        (vec![0x80, 0x80, 0x40, 0, 1], Err(WireError::TooMany(1))), // index 2^20
        (vec![0, 0, 0x80, 0x08], Err(WireError::Short)),            // claims 1024
    ];
    for (bytes, expected) in cases {
        let counts = decode_symbols(&bytes, 1024).map(|batch| batch.symbols[0].count);
        assert_eq!(counts, expected, "{bytes:?}");
    }
}
