//! Running one step.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use quipu_core::id::ArtifactId;
use quipu_core::value::Value;
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Store, Trap, UpdateDeadline};

use crate::artifacts::Artifacts;
use crate::key::StepKey;
use crate::limits::{Limits, MODULE_BYTES_MAX};
use crate::modules::{CacheDir, Modules};
use crate::operators::{self, PureError};
use crate::profile::{self, PROFILE};
use crate::program::{Action, Step};
use crate::receipt::Kept;
use crate::spool::{Made, Spool};
use crate::wasi::{self, Files, Host, Opener, Stop};
use crate::watch::Meter;

/// What a module is told to be its own name.
const ARG_0: &str = "step";
/// Characters of a module's last words that an error repeats.
const LAST_WORDS_MAX: usize = 1000;

/// Why a step gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Bytes that it needs are not here.
    #[error("{what} is not here: {key}")]
    Missing {
        /// What they are.
        what: String,
        /// Whose bytes.
        key: ArtifactId,
    },
    /// The module is none that can be run.
    #[error("the module {key} cannot be run: {why}")]
    Module {
        /// The module.
        key: ArtifactId,
        /// What is wrong with it.
        why: String,
    },
    /// The module ended with a code that says it failed.
    #[error("it exited with {code}{}", quoted(.said))]
    Exit {
        /// The code.
        code: i32,
        /// The end of what it wrote for people.
        said: String,
    },
    /// The module did something that ends it.
    #[error("it was stopped: {why}{}", quoted(.said))]
    Trap {
        /// What it did.
        why: String,
        /// The end of what it wrote for people.
        said: String,
    },
    /// It went beyond a limit.
    #[error("{0}")]
    Limit(String),
    /// It ended well and did not make what it should.
    #[error("it did not write its output {0:?} (a module writes it to /out/{0})")]
    OutputMissing(String),
    /// It made something that the program does not know.
    #[error("it wrote {0:?} to /out, which is no output of the step")]
    OutputUnknown(String),
    /// Bytes could not be read or kept: not the program's fault.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// Somebody stopped it.
    #[error("it was stopped on request")]
    Killed,
}

fn quoted(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; it said: {words}") }
}

impl StepError {
    /// What one can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "fetch the artifact, then run again",
            Self::Module { .. } => {
                "a step is a WASI preview 1 command, such as `zig cc -target wasm32-wasi` makes"
            }
            Self::Exit { .. } | Self::Trap { .. } => "the module is at fault, or its inputs are",
            Self::Limit(_) => "if that is what it needs, raise the step's limit in the program",
            Self::OutputMissing(_) | Self::OutputUnknown(_) => {
                "the program's outputs have to be what the module writes"
            }
            Self::Io { .. } => "check the disk and the store, then run again",
            Self::Killed => "run again",
        }
    }
}

/// One step to run: a step of a program with its inputs resolved.
#[derive(Debug, Clone, Copy)]
pub struct Job<'j> {
    /// The step.
    pub step: &'j Step,
    /// The keys of its inputs, by name.
    pub inputs: &'j BTreeMap<String, ArtifactId>,
}

impl Job<'_> {
    /// All that decides the outputs, hashed.
    pub fn key(&self) -> StepKey {
        StepKey::of(&self.to_value(PROFILE))
    }

    /// All that decides the outputs.
    pub(crate) fn to_value(self, profile: u64) -> Value {
        let action = match &self.step.action {
            Action::Module { key, args } => Value::map([
                ("module", Value::from(*key)),
                ("args", Value::list(args.iter().map(String::as_str))),
            ]),
            Action::Operator { name, parameters } => Value::map([
                ("operator", Value::from(name.as_str())),
                ("parameters", Value::Map(parameters.clone())),
            ]),
            Action::Query(query) => Value::map([("query", query.to_value())]),
        };
        let pairs = self
            .inputs
            .iter()
            .map(|(name, key)| Value::List(vec![Value::from(name.as_str()), Value::from(*key)]));
        Value::map([
            ("profile", Value::from(profile)),
            ("action", action),
            ("inputs", Value::List(pairs.collect())),
            ("outputs", Value::list(self.step.outputs.keys().map(String::as_str))),
            ("limits", self.step.limits.to_value()),
        ])
    }
}

/// Runs steps. Made once for a process: it keeps compiled modules.
pub struct Runner {
    engine: Engine,
    linker: Linker<Host>,
    modules: Modules,
    seed: fn(&StepKey) -> [u8; 32],
}

impl Runner {
    /// A runner that keeps compiled modules in memory and, if there is a place, in files.
    ///
    /// # Errors
    ///
    /// If this processor cannot do what the profile needs.
    pub fn new(cache: Option<CacheDir>) -> Result<Self, RunnerError> {
        let of = |error: wasmtime::Error| RunnerError(format!("{error:#}"));
        let engine = Engine::new(&profile::config()).map_err(of)?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(of)?;
        let modules = Modules::new(&engine, cache);
        Ok(Self { engine, linker, modules, seed: |key| key.0 })
    }

    /// A runner whose random numbers come from elsewhere than from the step's key. For tests of those who have
    /// to notice: what it gives is not deterministic, and its receipts are wrong (PEL-5).
    #[must_use]
    pub fn seeded_by(self, seed: fn(&StepKey) -> [u8; 32]) -> Self {
        Self { seed, ..self }
    }

    /// How many modules were compiled: those that were found in memory or in files do not count.
    pub fn compiled(&self) -> u64 {
        self.modules.compiled()
    }

    /// Ends a step: at once if it computes, else at its next call.
    pub fn kill(&self, meter: &Meter) {
        meter.kill();
        self.engine.increment_epoch();
    }

    /// Runs a step and keeps what it made. `meter` counts and can end it.
    pub fn run(
        &self,
        job: Job<'_>,
        artifacts: &Arc<dyn Artifacts>,
        meter: &Arc<Meter>,
    ) -> Result<BTreeMap<String, Kept>, StepError> {
        let made = match &job.step.action {
            Action::Module { key, args } => self.run_module(job, *key, args, artifacts, meter)?,
            Action::Operator { name, parameters } => {
                run_operator(job, name, parameters, artifacts.as_ref(), meter)?
            }
            Action::Query(_) => {
                let why = "a query is answered before the run begins".to_owned();
                return Err(StepError::Limit(why));
            }
        };
        if meter.is_killed() {
            return Err(StepError::Killed);
        }
        made.into_iter()
            .map(|(name, made)| {
                let size = made.size();
                let kept = artifacts.put(made).map(|key| (name.clone(), Kept { key, size }));
                kept.map_err(|error| io_error(format!("keeping output {name:?}"), error))
            })
            .collect()
    }

    fn module(&self, key: ArtifactId, artifacts: &dyn Artifacts) -> Result<Module, StepError> {
        let read = || read_module(key, artifacts).map_err(Load::Step);
        self.modules.load(&self.engine, key, read).map_err(|error| match error {
            Load::Step(error) => error,
            Load::Compile(error) => StepError::Module { key, why: format!("{error:#}") },
        })
    }

    fn run_module(
        &self,
        job: Job<'_>,
        key: ArtifactId,
        args: &[String],
        artifacts: &Arc<dyn Artifacts>,
        meter: &Arc<Meter>,
    ) -> Result<BTreeMap<String, Made>, StepError> {
        let module = self.module(key, artifacts.as_ref())?;
        let refused = |why| StepError::Module { key, why };
        check_module(&module).map_err(refused)?;
        let ready = self.linker.instantiate_pre(&module);
        let ready = ready.map_err(|error| refused(format!("{error:#}")))?;
        let limits = job.step.limits;
        let files = files_of(job, artifacts)?;
        let args = std::iter::once(ARG_0.to_owned()).chain(args.iter().cloned()).collect();
        let host =
            Host::new(files, args, &(self.seed)(&job.key()), limits.memory, Arc::clone(meter));
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| &mut host.memory);
        let ended = start(&mut store, &ready, limits);
        let left = store.get_fuel().unwrap_or(0);
        let mut host = store.into_data();
        host.meter.count(meter.bytes(), limits.fuel.saturating_sub(left));
        if let Err(error) = ended {
            explain(error, &mut host, limits)?;
        }
        let output = |error| io_error("writing outputs".to_owned(), error);
        declared(host.files.finish().map_err(output)?, job.step)
    }
}

/// A processor or an operating system that cannot run steps.
#[derive(Debug, thiserror::Error)]
#[error("programs cannot be run here: {0}")]
pub struct RunnerError(String);

/// Why there is no compiled module.
enum Load {
    Step(StepError),
    Compile(wasmtime::Error),
}

impl From<wasmtime::Error> for Load {
    fn from(error: wasmtime::Error) -> Self {
        Self::Compile(error)
    }
}

fn start(
    store: &mut Store<Host>,
    ready: &InstancePre<Host>,
    limits: Limits,
) -> wasmtime::Result<()> {
    store.set_fuel(limits.fuel)?;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        if store.data().meter.is_killed() {
            return Err(wasmtime::Error::new(Stop::Killed));
        }
        Ok(UpdateDeadline::Continue(1))
    });
    // After the deadline is set: whoever kills from now on ends a wait for it.
    if store.data().meter.is_killed() {
        return Err(wasmtime::Error::new(Stop::Killed));
    }
    let instance = ready.instantiate(&mut *store)?;
    instance.get_typed_func::<(), ()>(&mut *store, "_start")?.call(store, ())
}

fn io_error(what: String, error: io::Error) -> StepError {
    StepError::Io { what, error }
}

fn size_of(key: ArtifactId, what: &str, artifacts: &dyn Artifacts) -> Result<u64, StepError> {
    let size =
        artifacts.size(key).map_err(|error| io_error(format!("looking for {what}"), error))?;
    size.ok_or_else(|| StepError::Missing { what: what.to_owned(), key })
}

fn read_module(key: ArtifactId, artifacts: &dyn Artifacts) -> Result<Vec<u8>, StepError> {
    let size = size_of(key, "the module", artifacts)?;
    if size > MODULE_BYTES_MAX {
        let why = format!("it has {size} bytes: at most {MODULE_BYTES_MAX} are compiled");
        return Err(StepError::Module { key, why });
    }
    let mut bytes = Vec::new();
    let read = artifacts.open(key).and_then(|mut reader| reader.read_to_end(&mut bytes));
    read.map_err(|error| io_error("reading the module".to_owned(), error))?;
    Ok(bytes)
}

/// What the linker would say, in words for people.
fn check_module(module: &Module) -> Result<(), String> {
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        match import.ty() {
            ExternType::Func(_) if from == wasi::MODULE => {}
            ExternType::Memory(_) => {
                return Err(format!("it imports a memory, {from}.{name}: it needs one of its own"));
            }
            _ => {
                let there_is = wasi::MODULE;
                return Err(format!("it imports {from}.{name}, and there is {there_is} only"));
            }
        }
    }
    match module.get_export("_start") {
        Some(ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => {}
        Some(ExternType::Func(_)) => {
            return Err("its `_start` takes or gives something: it is no command".to_owned());
        }
        _ => return Err("it has no function `_start`: it is no command".to_owned()),
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ => Err("it exports no `memory`".to_owned()),
    }
}

fn files_of(job: Job<'_>, artifacts: &Arc<dyn Artifacts>) -> Result<Files, StepError> {
    let mut sizes = BTreeMap::new();
    for (name, key) in job.inputs {
        sizes.insert(name.clone(), size_of(*key, &format!("input {name:?}"), artifacts.as_ref())?);
    }
    let (keys, store) = (job.inputs.clone(), Arc::clone(artifacts));
    let opener: Opener = Arc::new(move |name| match keys.get(name) {
        Some(key) => store.open(*key),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    });
    let outputs: BTreeSet<String> = job.step.outputs.keys().cloned().collect();
    let (dir, limits) = (artifacts.work_dir().to_owned(), job.step.limits);
    Files::new(sizes, &outputs, opener, dir, limits.output, limits.files)
        .map_err(|error| io_error("opening the inputs".to_owned(), error))
}

/// What an early end means. Exit code 0 is a good one.
fn explain(error: wasmtime::Error, host: &mut Host, limits: Limits) -> Result<(), StepError> {
    let words = host.files.last_words();
    let start = words.char_indices().rev().nth(LAST_WORDS_MAX - 1).map_or(0, |(at, _)| at);
    let said = words[start..].to_owned();
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Exit(0) => Ok(()),
            Stop::Exit(code) => {
                Err(StepError::Exit { code: *code, said: with_memory(said, host, limits) })
            }
            Stop::Killed => Err(StepError::Killed),
            Stop::OutputLimit(_) | Stop::FilesLimit(_) => Err(StepError::Limit(stop.to_string())),
            Stop::Input { error, .. } => Err(io_error(stop.to_string(), copy(error))),
            Stop::Output(error) => Err(io_error("writing outputs".to_owned(), copy(error))),
            Stop::HostMemory => {
                let error = io::Error::from(io::ErrorKind::OutOfMemory);
                Err(io_error("growing the step's memory".to_owned(), error))
            }
        };
    }
    let why = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            return Err(StepError::Limit(format!("it used up its limit of {} fuel", limits.fuel)));
        }
        Some(Trap::StackOverflow) => "it called functions too deep".to_owned(),
        Some(trap) => trap.to_string(),
        None => format!("{error:#}"),
    };
    Err(StepError::Trap { why, said: with_memory(said, host, limits) })
}

/// Adds that memory was refused, which is often why a module gives up.
fn with_memory(said: String, host: &Host, limits: Limits) -> String {
    match host.memory.refused {
        Some(asked) => {
            let limit = limits.memory;
            let line = format!("(it asked for {asked} bytes of memory, and its limit is {limit})");
            if said.is_empty() { line } else { format!("{said} {line}") }
        }
        None => said,
    }
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// What was made, if it is what should have been.
fn declared(
    made: BTreeMap<String, Made>,
    step: &Step,
) -> Result<BTreeMap<String, Made>, StepError> {
    if let Some(name) = step.outputs.keys().find(|name| !made.contains_key(*name)) {
        return Err(StepError::OutputMissing(name.clone()));
    }
    match made.keys().find(|name| !step.outputs.contains_key(*name)) {
        Some(name) => Err(StepError::OutputUnknown(name.clone())),
        None => Ok(made),
    }
}

fn run_operator(
    job: Job<'_>,
    name: &str,
    parameters: &quipu_core::value::Map,
    artifacts: &dyn Artifacts,
    meter: &Meter,
) -> Result<BTreeMap<String, Made>, StepError> {
    let limits = job.step.limits;
    let mut inputs: Vec<Box<dyn Read + Send>> = Vec::new();
    for (name, key) in job.inputs {
        let what = format!("input {name:?}");
        size_of(*key, &what, artifacts)?;
        let opened =
            artifacts.open(*key).map_err(|error| io_error(format!("opening {what}"), error))?;
        inputs.push(Box::new(opened));
    }
    let mut out =
        Bounded { spool: Spool::new(artifacts.work_dir()), max: limits.output, over: false };
    let ran = operators::run_pure(
        name,
        parameters,
        &mut inputs,
        limits.memory,
        &mut Metered(&mut out, meter),
    );
    if meter.is_killed() {
        return Err(StepError::Killed);
    }
    if out.over {
        return Err(StepError::Limit(Stop::OutputLimit(limits.output).to_string()));
    }
    ran.map_err(|error| match error {
        PureError::Memory(_) => StepError::Limit(error.to_string()),
        PureError::Io(error) => io_error(format!("running {name:?}"), error),
    })?;
    let made = out.spool.finish().map_err(|error| io_error("writing outputs".to_owned(), error))?;
    let output = job.step.outputs.keys().next().cloned().unwrap_or_default();
    Ok([(output, made)].into())
}

/// Counts what an operator writes, and ends it when it is not wanted any more.
struct Metered<'m>(&'m mut Bounded, &'m Meter);

impl io::Write for Metered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.1.is_killed() {
            return Err(io::Error::other("stopped on request"));
        }
        let written = self.0.write(bytes)?;
        self.1.count(self.0.spool.size(), 0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an operator or a query writes, up to a limit.
pub(crate) struct Bounded {
    pub(crate) spool: Spool,
    pub(crate) max: u64,
    pub(crate) over: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.spool.size() + bytes.len() as u64 > self.max {
            self.over = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.spool.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
