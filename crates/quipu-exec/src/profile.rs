//! The determinism profile: all that decides what a step makes of its inputs, besides its module.
//!
//! It is a part of every key of a step. Whoever changes something that a program can observe raises
//! [`PROFILE`]. The version of wasmtime is not a part of it: the semantics of WebAssembly are
//! fixed, and what is left open by them is fixed here.

use wasmtime::{Config, OptLevel, WasmFeatures};

/// The version of the profile.
pub const PROFILE: u64 = 1;

/// Stack of a step, in bytes. What fits depends on the compiler and the processor, but a program
/// cannot go on after an overflow, so this decides whether there is a result, never which.
const STACK_BYTES: usize = 1 << 20;

/// The proposals that are on. Everything else is off: threads and shared memory above all, and
/// whatever could hand a program an address, an order or a number of the host.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::FLOATS
}

/// The engine's configuration.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all(), false).wasm_features(features(), true);
    // Which bits a NaN has is up to the processor: here they are always the same.
    config.cranelift_nan_canonicalization(true);
    // Relaxed instructions may differ by processor: here all do the same, if more slowly.
    config.relaxed_simd_deterministic(true);
    config.consume_fuel(true);
    // Ends a step that is not wanted any more. It can stop a step, and change nothing else.
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK_BYTES);
    config.cranelift_opt_level(OptLevel::Speed);
    // Backtraces name functions in error messages; line numbers would need more crates.
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8));
    config
}
