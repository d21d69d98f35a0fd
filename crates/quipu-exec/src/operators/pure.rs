//! The operators that need nothing but their inputs. All work on bytes: a line ends with a line feed
//! or with the input, and lines are compared byte by byte.

use std::io::{self, BufRead, Read, Write};

use quipu_core::value::{Map, Value};

/// Why a pure operator gives nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PureError {
    /// The inputs are larger than the step's memory.
    #[error("its input is larger than its memory limit of {0} bytes")]
    Memory(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs an operator that was checked, on inputs in the order of their names.
pub(crate) fn run(
    name: &str,
    parameters: &Map,
    inputs: &mut [Box<dyn Read + Send>],
    memory: u64,
    out: &mut dyn Write,
) -> Result<(), PureError> {
    let on = |name| parameters.get(name).and_then(Value::as_bool).unwrap_or(false);
    match (name, inputs) {
        ("concat", inputs) => {
            for input in inputs {
                io::copy(input, out)?;
            }
            Ok(())
        }
        ("select-lines", [input]) => {
            let contains = parameters.get("contains").and_then(Value::as_str).unwrap_or_default();
            select(input, contains.as_bytes(), on("invert"), memory, out)
        }
        ("sort-lines", [input]) => sort(input, on("unique"), memory, out),
        // The checker lets no other operator and no other number of inputs through.
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no such operator").into()),
    }
}

fn select(
    input: &mut dyn Read,
    contains: &[u8],
    invert: bool,
    memory: u64,
    out: &mut dyn Write,
) -> Result<(), PureError> {
    let mut input = io::BufReader::with_capacity(64 << 10, input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = memory.saturating_add(1);
        input.by_ref().take(most).read_until(b'\n', &mut line)?;
        if line.len() as u64 > memory {
            return Err(PureError::Memory(memory));
        }
        if line.is_empty() {
            return Ok(());
        }
        let found =
            contains.is_empty() || line.windows(contains.len()).any(|part| part == contains);
        if found != invert {
            out.write_all(&line)?;
        }
    }
}

fn sort(
    input: &mut dyn Read,
    unique: bool,
    memory: u64,
    out: &mut dyn Write,
) -> Result<(), PureError> {
    let mut bytes = Vec::new();
    input.take(memory.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > memory {
        return Err(PureError::Memory(memory));
    }
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    // Without the line feed, so that a line comes before its continuations.
    lines.sort_unstable_by_key(|line| &line[..line.len() - 1]);
    if unique {
        lines.dedup();
    }
    for line in lines {
        out.write_all(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(name: &str, parameters: Value, inputs: &[&str], memory: u64) -> Option<String> {
        let mut inputs: Vec<Box<dyn Read + Send>> = inputs
            .iter()
            .map(|text| Box::new(io::Cursor::new(text.as_bytes().to_vec())) as Box<_>)
            .collect();
        let mut out = Vec::new();
        let parameters = parameters.as_map().cloned().unwrap_or_default();
        run(name, &parameters, &mut inputs, memory, &mut out).ok()?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn each_operator() {
        let on = |name| Value::map([(name, Value::from(true))]);
        let run = |name, parameters, inputs: &[&str]| {
            run_on(name, parameters, inputs, 100).expect("it runs")
        };
        assert_eq!(run("concat", Value::Null, &["a\n", "", "b"]), "a\nb");
        assert_eq!(run("sort-lines", Value::Null, &["b\na-\na\na"]), "a\na\na-\nb\n");
        assert_eq!(run("sort-lines", on("unique"), &["b\na\nb"]), "a\nb\n");
        assert_eq!(run("sort-lines", Value::Null, &[""]), "");
        let mut with = Value::map([("contains", Value::from("an"))]);
        assert_eq!(run("select-lines", with.clone(), &["banana\nfig\nant"]), "banana\nant");
        if let Value::Map(map) = &mut with {
            map.insert("invert", Value::from(true)).expect("not reserved");
        }
        assert_eq!(run("select-lines", with, &["banana\nfig\nant"]), "fig\n");
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(run_on("sort-lines", Value::Null, &["abcd\n"], 4), None);
        let with = Value::map([("contains", Value::from("a"))]);
        assert_eq!(run_on("select-lines", with.clone(), &["a\na\nabcdef"], 4), None);
        assert!(run_on("select-lines", with, &["abc\nabc\nabc\n"], 4).is_some());
    }
}
