//! The documents say what the program does.

mod common;

use std::path::{Path, PathBuf};

use common::{files_under, finish, program, temp};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn printed(arguments: &[&str]) -> String {
    let temp = temp();
    let mut command = program(temp.path());
    command.args(arguments);
    let ran = finish(command, b"");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Make it again with `quipu reference > docs/cli.md`.
#[test]
fn the_reference_is_the_programs_own() {
    let (written, printed) = (document("cli.md"), printed(&["reference"]));
    let first = written.lines().zip(printed.lines()).position(|(a, b)| a != b);
    assert!(written == printed, "docs/cli.md differs, first at line {first:?}: make it again");
}

#[test]
fn the_flow_charts_are_the_programs_own() {
    let written = document("flowchart.md");
    for chart in printed(&["flowchart"]).split("\n\n").map(str::trim).filter(|c| !c.is_empty()) {
        assert!(written.contains(chart), "docs/flowchart.md lacks:\n{chart}");
    }
}

/// Requirement ids at the start of table rows or headings.
fn ids_in(text: &str) -> Vec<String> {
    let word = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-');
    let is_id = |word: &&str| {
        word.split_once('-').is_some_and(|(name, number)| {
            (3..=4).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_uppercase())
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let mut ids: Vec<String> = text.split(word).filter(is_id).map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn every_requirement_has_a_row() {
    let conformance = ids_in(&document("conformance.md"));
    let families =
        [("EVT", 13), ("LOG", 10), ("ART", 9), ("DOM", 9), ("PEL", 11), ("MESH", 10), ("USE", 5)];
    let all =
        families.iter().flat_map(|(name, last)| (1..=*last).map(move |n| format!("{name}-{n}")));
    let missing: Vec<String> = all.filter(|id| !conformance.contains(id)).collect();
    assert!(missing.is_empty(), "docs/conformance.md has no row for {missing:?}");
}

#[test]
fn conformance_names_only_tests_that_exist() {
    let mut sources = String::new();
    for file in files_under(&root().join("crates")) {
        if file.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(file).unwrap());
        }
    }
    let text = document("conformance.md");
    let mut missing = Vec::new();
    // Proofs are a file and a test in it.
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '|' | '`'));
    let mut proofs = 0;
    for word in words {
        let Some((file, name)) = word.split_once(".rs::") else { continue };
        let source = std::fs::read_to_string(root().join(format!("{file}.rs")));
        if !source.is_ok_and(|source| source.contains(&format!("fn {name}("))) {
            missing.push(word);
        }
        proofs += 1;
    }
    assert!(proofs > 100, "only {proofs} proofs are read");
    // Tests are named in code spans, as paths or plain names with at least two underscores.
    for span in text.split('`').skip(1).step_by(2) {
        let name = span.rsplit("::").next().unwrap_or(span);
        let is_name =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let looks = is_name && (span.contains("::") || name.matches('_').count() >= 2);
        if looks
            && !sources.contains(&format!("fn {name}("))
            && !sources.contains(&format!("mod {name}"))
        {
            missing.push(span);
        }
        let is_path = span.contains('/') && !span.contains(' ') && !span.contains('*');
        if is_path && span.ends_with(".rs") && !root().join(span).exists() {
            missing.push(span);
        }
    }
    assert!(missing.is_empty(), "docs/conformance.md names what does not exist: {missing:?}");
}
