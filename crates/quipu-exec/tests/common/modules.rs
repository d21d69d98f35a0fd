//! Random valid modules, which call WASI with random arguments.
#![allow(unreachable_pub, reason = "test programs of two crates have it")]

use wasm_smith::{Config, Module};

/// Bytes of entropy that a module is made of.
const ENTROPY_BYTES: usize = 4000;
/// What each module imports and exports. What it does is random.
pub const SHAPE: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))"#;

/// A module of that shape; nothing if this seed gives none.
pub fn generated(seed: u64, shape: &[u8]) -> Option<Vec<u8>> {
    let config = Config {
        module_shape: Some(shape.to_vec()),
        max_memory32_bytes: 1 << 20,
        max_instructions: 400,
        allow_start_export: false,
        threads_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        // Those to anything but functions are not in the profile.
        reference_types_enabled: false,
        memory64_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    let mut bytes = vec![0; ENTROPY_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    let module = Module::new(config, &mut arbitrary::Unstructured::new(&bytes)).ok()?;
    Some(module.to_bytes())
}
