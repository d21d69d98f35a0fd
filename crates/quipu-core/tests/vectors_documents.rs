//! The documents in `docs/formats/` show bytes from `test-vectors/`. This compares them, so that the
//! documents cannot lie quietly.

use std::path::PathBuf;

fn root_of_repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The hexadecimal examples in the documents are those of the vectors.
#[test]
fn documents_show_vectors() {
    let root = root_of_repository();
    let cases = [
        (
            "event.md",
            &[
                "event-v1.json",
                "payload-v1.json",
                "signatures.json",
                "subjects.json",
                "digest.json",
            ][..],
        ),
        ("pack.md", &["pack-v1.json"]),
        ("value.md", &["value.json"]),
        ("sync-messages.md", &["sync-messages-v1.json", "sync-artifacts-v1.json"]),
        ("statements.md", &["statements.json"]),
        ("state.md", &["state.json"]),
        ("block.md", &["store-v2.json"]),
        ("bundle.md", &["bundle.json"]),
    ];
    for (document, files) in cases {
        let document = root.join("docs/formats").join(document);
        let text = std::fs::read_to_string(&document).unwrap();
        let vectors: String = files
            .iter()
            .map(|name| std::fs::read_to_string(root.join("test-vectors").join(name)).unwrap())
            .collect();
        let examples = hex_examples(&text);
        assert!(!examples.is_empty(), "{}", document.display());
        for example in examples {
            assert!(
                vectors.contains(&example),
                "{}: {example} is in no vector",
                document.display()
            );
        }
    }
}

/// What ```` ```hex ```` blocks hold: the digits at the start of each line (notes come after `;`),
/// joined up to the next empty line.
fn hex_examples(text: &str) -> Vec<String> {
    let blocks = text.split("```hex\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples = blocks.flat_map(|block| block.split("\n\n"));
    examples
        .map(|example| {
            let digits = example.lines().flat_map(|line| line.split(';').next());
            digits.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect::<String>()
        })
        .filter(|example| !example.is_empty())
        .collect()
}
