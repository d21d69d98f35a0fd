//! Random valid modules, which call WASI with random arguments, run twice under all that may differ: the
//! same outputs, or the same error, after the same work.

mod common;
#[path = "common/modules.rs"]
mod modules;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use common::{How, Memory, execute_watched, program, runner};
use modules::{SHAPE, generated};
use quipu_core::id::ArtifactId;
use quipu_exec::Runner;
use quipu_exec::receipt::StepReceipt;
use quipu_exec::run::RunError;
use quipu_exec::watch::{Meter, Watch};

/// Modules that are run.
const MODULES: u64 = 200;
/// Remembers the meters of steps.
#[derive(Default)]
struct Fuel(Mutex<BTreeMap<String, Arc<Meter>>>);

impl Watch for Fuel {
    fn begin(&self, step: &str, meter: &Arc<Meter>) {
        self.0.lock().expect("no panic").insert(step.to_owned(), Arc::clone(meter));
    }
}

impl Fuel {
    fn of(&self, step: &str) -> (u64, u64) {
        let meters = self.0.lock().expect("no panic");
        (meters[step].fuel(), meters[step].bytes())
    }
}

fn step_source(id: &str, key: ArtifactId) -> String {
    format!(
        "[[steps]]\nid = \"{id}\"\nmodule = \"{key}\"\noutputs = {{ stdout = {{}} }}\nlimits = {{ fuel = 1_000_000, memory = 2_097_152, output = 1_000_000 }}\n"
    )
}

/// What a module comes to alone, with the fuel and bytes that it took.
fn alone(runner: &Runner, module: &[u8]) -> (Result<StepReceipt, String>, (u64, u64)) {
    let store = Memory::new();
    let step = step_source("s", store.add(module));
    let source = format!("quipu-program = 1\n{step}[outputs]\no = \"s/stdout\"\n");
    let fuel = Fuel::default();
    let program = program(&store, &source, &[]);
    let result = match execute_watched(runner, &store, &program, &[], How::default(), &fuel) {
        Ok(done) => Ok(done.receipt.steps["s"].clone()),
        Err(RunError::Step { error, .. }) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(store.leftovers(), 0);
    (result, fuel.of("s"))
}

#[test]
fn two_hundred_modules_run_the_same_way_twice() {
    let shape = wat::parse_str(SHAPE).expect("a module");
    let modules: Vec<(u64, Vec<u8>)> = (0..)
        .filter_map(|seed| Some((seed, generated(seed, &shape)?)))
        .take(MODULES as usize)
        .collect();
    let (one, two) = (runner(), runner());
    let mut well = BTreeMap::new();
    let mut errors = BTreeMap::<String, u32>::new();
    for (seed, module) in &modules {
        let first = alone(&one, module);
        match &first.0 {
            Ok(receipt) => {
                well.insert(format!("m{seed}"), (module, receipt.clone(), first.1));
            }
            Err(error) => {
                assert!(!error.contains("cannot be run"), "seed {seed}: {error}");
                *errors.entry(error.chars().take(40).collect()).or_default() += 1;
                assert_eq!(first, alone(&two, module), "seed {seed}");
            }
        }
    }
    assert!(well.len() > 20, "only {} came to an end; {errors:?}", well.len());
    // All that ended well, as steps of one program, in another order and in parallel.
    let store = Memory::new();
    let mut source = "quipu-program = 1\n".to_owned();
    let mut outputs = "[outputs]\n".to_owned();
    for (id, (module, ..)) in &well {
        source.push_str(&step_source(id, store.add(module)));
        let _ = writeln!(outputs, "{id} = \"{id}/stdout\"");
    }
    let program = program(&store, &(source + &outputs), &[]);
    let fuel = Fuel::default();
    let how = How { threads: 4, order_seed: Some(7), ..How::default() };
    let done =
        execute_watched(&two, &store, &program, &[], how, &fuel).expect("all ended well before");
    for (id, (_, receipt, work)) in &well {
        assert_eq!(&done.receipt.steps[id], receipt, "{id}");
        assert_eq!(fuel.of(id), *work, "{id}");
    }
}
