#!/usr/bin/env bash
# fuzz/run.sh SECONDS [TARGET...]: builds the fuzzer with coverage and runs targets, one after the
# other. Works with the stable toolchain: the coverage pass of LLVM is asked for by its own name.
set -eu
cd "$(dirname "$0")"
seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
directory=${CARGO_TARGET_DIR:-target}/coverage
cargo run --quiet --release --bin seeds
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
  cargo build --quiet --release --features libfuzzer --bin fuzz --target "$host" --target-dir "$directory"
fuzz=$directory/$host/release/fuzz
[ $# -gt 0 ] || set -- $(sed -n 's/^    \(targets\|node\|store\|artifact\|shelf\|mesh\|radio\)::\([a-z_]*\),$/\2/p' src/lib.rs)
failed=0
for target; do
  mkdir -p "corpus/$target" "artifacts/$target"
  echo "== $target"
  QUIPU_TARGET=$target "$fuzz" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 \
    -max_len=65536 -len_control=20 -artifact_prefix="artifacts/$target/" -print_final_stats=1 \
    "corpus/$target" >"artifacts/$target.log" 2>&1 || failed=1
  grep -E 'ERROR|panicked|Test unit|^stat::(number_of|peak|average|slowest)' "artifacts/$target.log" || true
done
exit $failed
