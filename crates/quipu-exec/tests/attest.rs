//! Lineage in the forms that others read. The process tests have their tools read it.

mod common;

use common::{How, Memory, copy, execute, program, runner};
use ed25519_dalek::{Signer, SigningKey};
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_exec::attest::{
    Envelope, IN_TOTO_TYPE, Id, Lineage, Relation, to_dot, to_prov_json, to_statement,
};

const SOURCE: &str = r#"
quipu-program = 1
[inputs]
x = "text/plain"
[[steps]]
id = "first"
module = "file:copy"
inputs = { in = "input:x" }
outputs = { out = "text/plain" }
[[steps]]
id = "sorted"
operator = "sort-lines"
inputs = { in = "first/out" }
outputs = { out = "text/plain" }
[outputs]
y = "sorted/out"
"#;

/// A lineage with all that there can be: a run, a machine, an import, something blinded.
fn lineage() -> (Lineage, ArtifactId, SigningKey) {
    let store = Memory::new();
    let program = program(&store, SOURCE, &[("copy", &copy())]);
    let x = store.add(b"b\na\n");
    let done = execute(&runner(), &store, &program, &[("x", x)], How::default()).expect("it runs");
    let key = SigningKey::from_bytes(&[5; 32]);
    let mut lineage = Lineage::default();
    let machine = NodeKey(key.verifying_key().to_bytes());
    lineage.add_run(&program.1, &done.receipt, Some(machine));
    let blinded = Id::Blinded([9; 32]);
    lineage.edge(blinded, Id::Artifact(x), Relation::Derived("import".to_owned()));
    let node = lineage.node(Id::Artifact(x));
    node.domain = Some(DomainId([3; 32]));
    node.snapshot = Some("there \"it\" was".to_owned());
    // Something that did not lead to it.
    let y = done.receipt.outputs["y"].key;
    lineage.edge(
        Id::Artifact(y),
        Id::Artifact(ArtifactId::of(b"later")),
        Relation::Derived("cited".into()),
    );
    (lineage, y, key)
}

#[test]
fn the_way_back_and_forth() {
    let (lineage, y, _) = lineage();
    let later = Id::Artifact(ArtifactId::of(b"later"));
    let back = lineage.reach(Id::Artifact(y), true);
    assert!(!back.nodes.contains_key(&later) && back.nodes.contains_key(&Id::Blinded([9; 32])));
    // Two artifacts before it, the module, two steps, the machine, the commitment, itself. The copy has
    // the key of its input.
    assert_eq!(back.nodes.len(), 7);
    let forth = lineage.reach(Id::Blinded([9; 32]), false);
    assert!(forth.nodes.contains_key(&later) && forth.edges.len() == 6, "{forth:?}");
    let json = back.to_json();
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(7));
    assert_eq!(json["edges"].as_array().map(Vec::len), Some(back.edges.len()));
}

#[test]
fn dot_quotes_what_it_is_given() {
    let (mut lineage, y, _) = lineage();
    lineage.node(Id::Artifact(y)).label = Some("a \"name\"\\\n}".to_owned());
    let dot = to_dot(&lineage);
    assert!(dot.contains("a \\\"name\\\"\\\\\\n}"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), lineage.edges.len());
}

#[test]
fn prov_has_a_relation_for_each_edge() {
    let (lineage, ..) = lineage();
    let prov = to_prov_json(&lineage);
    let count = |section: &str| prov[section].as_object().map_or(0, serde_json::Map::len);
    assert_eq!((count("entity"), count("activity"), count("agent")), (5, 2, 1));
    let relations = ["used", "wasGeneratedBy", "wasDerivedFrom", "wasAssociatedWith"];
    assert_eq!(relations.map(count), [3, 2, 2, 2]);
    assert_eq!(relations.map(count).iter().sum::<usize>(), lineage.edges.len());
}

#[test]
fn a_statement_is_signed_and_what_is_blinded_stays_so() {
    let (lineage, y, key) = lineage();
    let statement = to_statement(&lineage, y, "urn:nobody").expect("it was made");
    let builder = &statement["predicate"]["runDetails"]["builder"]["id"];
    let machine = NodeKey(key.verifying_key().to_bytes());
    assert_eq!(builder, &format!("urn:quipu:machine:{machine}"));
    let dependencies = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!(dependencies.as_array().map(Vec::len), Some(3));
    assert!(to_statement(&lineage, ArtifactId::of(b"unknown"), "urn:nobody").is_none());
    let payload = statement.to_string().into_bytes();
    let envelope = Envelope::sign(IN_TOTO_TYPE, payload, &machine.to_string(), |bytes| {
        key.sign(bytes).to_bytes()
    });
    let good = |_: &str, signed: &[u8], signature: &[u8]| {
        let signature = ed25519_dalek::Signature::from_slice(signature);
        signature
            .is_ok_and(|signature| key.verifying_key().verify_strict(signed, &signature).is_ok())
    };
    assert!(Envelope::from_json(&envelope.to_json()).expect("an envelope").verify(good));
}
