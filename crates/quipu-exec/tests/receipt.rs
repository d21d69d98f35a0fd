//! Receipts: what is read, what is refused, and how two are compared.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{How, Memory, copy, execute, program, runner};
use proptest::prelude::*;
use quipu_core::id::ArtifactId;
use quipu_exec::PROFILE;
use quipu_exec::artifacts::Artifacts;
use quipu_exec::key::StepKey;
use quipu_exec::program::Program;
use quipu_exec::receipt::{Kept, Receipt, ReceiptError, StepReceipt, compare};
use quipu_exec::run::{NothingKnown, RunError, Settings, Stopper};
use quipu_exec::verify::{Verified, VerifyError, input_differences, verify};
use quipu_exec::watch::Unwatched;

const CHAIN: &str = r#"
quipu-program = 1
[inputs]
x = {}
[[steps]]
id = "b-first"
module = "file:copy"
inputs = { in = "input:x" }
outputs = { out = {} }
[[steps]]
id = "a-second"
module = "file:copy"
args = ["again"]
inputs = { in = "b-first/out" }
outputs = { out = {} }
[outputs]
y = "a-second/out"
"#;

fn ran() -> (Arc<Memory>, (ArtifactId, Program), Receipt) {
    let store = Memory::new();
    let program = program(&store, CHAIN, &[("copy", &copy())]);
    let x = store.add(b"x");
    let done = execute(&runner(), &store, &program, &[("x", x)], How::default()).expect("it runs");
    (store, program, done.receipt)
}

fn check(store: &Arc<Memory>, receipt: &Receipt) -> Result<Verified, VerifyError> {
    let artifacts: Arc<dyn Artifacts> = Arc::clone(store) as Arc<dyn Artifacts>;
    let stop = Stopper::default();
    let settings = Settings {
        known: &NothingKnown,
        watch: &Unwatched,
        threads: 2,
        stop: &stop,
        order_seed: None,
    };
    verify(&runner(), &artifacts, receipt, settings)
}

#[test]
fn a_true_receipt_is_verified_from_itself_alone() {
    let (store, _, receipt) = ran();
    let receipt = Receipt::decode(&receipt.encode()).expect("a receipt");
    let verified = check(&store, &receipt).expect("it runs again");
    assert_eq!(verified, Verified { first_difference: None, steps_run: 2 });
}

#[test]
fn the_first_difference_is_where_it_begins() {
    let (store, (_, program), receipt) = ran();
    // A receipt of a host that made something else of the first step; consistent in itself.
    let lie = Kept { key: ArtifactId::of(b"y"), size: 1 };
    let mut other = receipt.clone();
    let set = |receipt: &mut Receipt, step: &str| {
        let step = receipt.steps.get_mut(step).expect("a step");
        step.outputs.insert("out".to_owned(), lie);
    };
    set(&mut other, "b-first");
    set(&mut other, "a-second");
    other.outputs.insert("y".to_owned(), lie);
    assert!(
        matches!(other.check_against(&program), Err(ReceiptError::StepKey(step)) if step == "a-second")
    );
    let inputs = other.inputs_of(&program, "a-second").expect("all are known");
    let job = quipu_exec::Job { step: &program.steps["a-second"], inputs: &inputs };
    other.steps.get_mut("a-second").expect("a step").key = job.key();
    assert_eq!(other.check_against(&program), Ok(()));
    for first in [
        compare(&program, &receipt, &other),
        check(&store, &other).expect("it runs").first_difference,
    ] {
        let first = first.expect("they differ");
        assert_eq!(
            (first.step.as_deref(), first.output.as_deref()),
            (Some("b-first"), Some("out"))
        );
        assert!(first.to_string().starts_with("step \"b-first\", output \"out\": "));
    }
    assert_eq!(compare(&program, &receipt, &receipt), None);
    let mut of_another = receipt.clone();
    of_another.inputs.insert("x".to_owned(), ArtifactId::of(b"z"));
    let difference = compare(&program, &receipt, &of_another).expect("they differ");
    assert!(difference.to_string().contains("different runs"));
}

#[test]
fn what_cannot_be_of_the_program_is_refused() {
    let (store, (_, program), receipt) = ran();
    let broken = |change: &dyn Fn(&mut Receipt)| {
        let mut other = receipt.clone();
        change(&mut other);
        assert_eq!(Receipt::decode(&other.encode()), Ok(other.clone()), "well-formed all the same");
        assert!(matches!(
            check(&store, &other),
            Err(VerifyError::Receipt(_) | VerifyError::Profile(_))
        ));
        other.check_against(&program).err()
    };
    let shape = |error| matches!(error, Some(ReceiptError::Shape(_)));
    assert!(shape(broken(&|r| drop(r.steps.remove("a-second")))));
    assert!(shape(broken(&|r| r.outputs.clear())));
    assert!(shape(broken(&|r| {
        r.inputs.insert("more".into(), ArtifactId::of(b"x"));
    })));
    assert!(shape(broken(&|r| {
        r.outputs.insert("y".into(), Kept { key: ArtifactId::of(b"y"), size: 1 });
    })));
    assert!(shape(broken(&|r| r.steps.get_mut("b-first").expect("a step").outputs.clear())));
    assert_eq!(
        broken(&|r| r.steps.get_mut("b-first").expect("a step").key = StepKey([0; 32])),
        Some(ReceiptError::StepKey("b-first".into()))
    );
    broken(&|r| r.profile = PROFILE + 1);
}

#[test]
fn a_receipt_whose_inputs_are_gone_cannot_be_verified() {
    let (store, _, receipt) = ran();
    store.remove(receipt.inputs["x"]);
    match check(&store, &receipt) {
        Err(VerifyError::Run(RunError::Step { step, error })) => {
            assert_eq!(step, "b-first");
            assert!(error.to_string().contains("not here"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    store.remove(receipt.program);
    assert!(matches!(
        check(&store, &receipt),
        Err(VerifyError::Run(RunError::ProgramBytes { .. }))
    ));
}

#[test]
fn inputs_that_differ_from_the_recorded_ones_are_named() {
    let (_, _, receipt) = ran();
    let (x, y) = (receipt.inputs["x"], ArtifactId::of(b"other"));
    assert_eq!(input_differences(&receipt, &receipt.inputs), []);
    let now = BTreeMap::from([("x".to_owned(), y)]);
    assert_eq!(input_differences(&receipt, &now), [("x".to_owned(), Some(x), Some(y))]);
    assert_eq!(input_differences(&receipt, &BTreeMap::new()), [("x".to_owned(), Some(x), None)]);
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,10}"
}

fn key() -> impl Strategy<Value = ArtifactId> {
    any::<[u8; 32]>().prop_map(ArtifactId)
}

fn kept() -> impl Strategy<Value = BTreeMap<String, Kept>> {
    let kept = (key(), 0..1u64 << 50).prop_map(|(key, size)| Kept { key, size });
    proptest::collection::btree_map(name(), kept, 0..4)
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let run_input = prop_oneof![name(), (name(), name()).prop_map(|(a, b)| format!("{a}/{b}"))];
    let step = (any::<[u8; 32]>(), kept())
        .prop_map(|(key, outputs)| StepReceipt { key: StepKey(key), outputs });
    (
        key(),
        any::<u64>(),
        proptest::collection::btree_map(run_input, key(), 0..4),
        proptest::collection::btree_map(name(), step, 0..5),
        kept(),
    )
        .prop_map(|(program, profile, inputs, steps, outputs)| Receipt {
            program,
            profile,
            inputs,
            steps,
            outputs,
        })
}

proptest! {
    #[test]
    fn receipts_come_back(receipt in receipt(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let bytes = receipt.encode();
        prop_assert_eq!(Receipt::decode(&bytes), Ok(receipt.clone()));
        prop_assert_eq!(receipt.key(), ArtifactId::of(&bytes));
        let at = at.index(bytes.len());
        prop_assert!(Receipt::decode(&bytes[..at]).is_err());
        let mut other = bytes.clone();
        other[at] ^= 1 << bit;
        if let Ok(read) = Receipt::decode(&other) {
            prop_assert_ne!(&read, &receipt);
            prop_assert_eq!(read.encode(), other);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Receipt::decode(&bytes).is_err() || Receipt::decode(&bytes).is_ok_and(|r| r.encode() == bytes));
    }
}
