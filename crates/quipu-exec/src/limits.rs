//! Every bound of programs and their execution.

use quipu_core::value::Value;

/// Bytes of a stored program, and of its source.
pub const PROGRAM_BYTES_MAX: usize = 16 << 20;
/// Bytes of a receipt: what a program of the largest size can lead to.
pub const RECEIPT_BYTES_MAX: usize = 64 << 20;
/// Steps of a program.
pub const STEPS_MAX: usize = 10_000;
/// Inputs or outputs of a program or a step.
pub const PORTS_MAX: usize = 1_000;
/// Arguments of a step.
pub const ARGS_MAX: usize = 1_000;
/// Bytes of all arguments of a step.
pub const ARGS_BYTES_MAX: usize = 64 << 10;
/// Bytes of a name of an input, a step or an output.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a type tag.
pub const TYPE_BYTES_MAX: usize = quipu_core::statement::TAG_BYTES_MAX;
/// Labels of a step.
pub const LABELS_MAX: usize = quipu_core::execution::LABELS_MAX;
/// How deep queries nest.
pub const QUERY_DEPTH_MAX: usize = 16;
/// Bytes of a WebAssembly module: compiling takes time in proportion, and cannot be interrupted.
pub const MODULE_BYTES_MAX: u64 = 64 << 20;

/// Fuel of a step: an instruction takes about one unit.
pub const FUEL_DEFAULT: u64 = 200_000_000_000;
/// The most fuel that a step may be given.
pub const FUEL_MAX: u64 = 1 << 60;
/// Bytes of linear memory of a step.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;
/// The most that 32-bit addresses reach.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Bytes that a step writes, all outputs together.
pub const OUTPUT_BYTES_DEFAULT: u64 = 4 << 30;
/// The most bytes that a step may be allowed to write.
pub const OUTPUT_BYTES_MAX: u64 = quipu_core::artifact::ARTIFACT_BYTES_MAX;
/// Files and directories that a step makes below `/out`.
pub const FILES_DEFAULT: u64 = 64;
/// The most files that a step may be allowed to make.
pub const FILES_MAX: u64 = 10_000;

/// What a step may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limits {
    /// Units of fuel.
    pub fuel: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Bytes written to all outputs together.
    pub output: u64,
    /// Files and directories made below `/out`.
    pub files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: FUEL_DEFAULT,
            memory: MEMORY_BYTES_DEFAULT,
            output: OUTPUT_BYTES_DEFAULT,
            files: FILES_DEFAULT,
        }
    }
}

/// A limit by name, for whoever reads or checks them.
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) max: u64,
    pub(crate) of: fn(&mut Limits) -> &mut u64,
}

/// All limits, with the most that each may be.
pub(crate) const BOUNDS: [Bound; 4] = [
    Bound { name: "fuel", max: FUEL_MAX, of: |limits| &mut limits.fuel },
    Bound { name: "memory", max: MEMORY_BYTES_MAX, of: |limits| &mut limits.memory },
    Bound { name: "output", max: OUTPUT_BYTES_MAX, of: |limits| &mut limits.output },
    Bound { name: "files", max: FILES_MAX, of: |limits| &mut limits.files },
];

impl Limits {
    /// As it stands in a program and in step keys.
    pub(crate) fn to_value(mut self) -> Value {
        let mut map = quipu_core::value::Map::new();
        for bound in &BOUNDS {
            // No name of a bound is reserved.
            let _ = map.insert(bound.name, Value::from(*(bound.of)(&mut self)));
        }
        Value::Map(map)
    }
}
