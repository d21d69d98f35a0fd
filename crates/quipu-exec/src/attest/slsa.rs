//! Lineage as an in-toto Statement v1 with the SLSA provenance v1 predicate.

use data_encoding::HEXLOWER;
use quipu_core::id::ArtifactId;
use serde_json::{Value as Json, json};

use super::{Id, Lineage, Node, Relation, put};

/// How the subject was made.
pub const BUILD_TYPE: &str = "urn:quipu:build:program:1";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// The statement about an artifact; nothing if the lineage does not know it, or no step made it and it
/// comes from nothing. `builder` says who answers for it where no machine is known.
pub fn to_statement(lineage: &Lineage, subject: ArtifactId, builder: &str) -> Option<Json> {
    let subject_id = Id::Artifact(subject);
    let node = lineage.nodes.get(&subject_id)?;
    let made = |edge: &&super::Edge| edge.to == subject_id && edge.relation != Relation::By;
    lineage.edges.iter().find(made)?;
    let before = lineage.reach(subject_id, true);
    let name = node.label.clone().unwrap_or_else(|| subject.to_string());
    Some(json!({
        "_type": STATEMENT_TYPE,
        "subject": [{ "name": name, "digest": digest(subject) }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": definition(&before, subject_id),
            "runDetails": details(&before, subject_id, builder),
        },
    }))
}

fn digest(key: ArtifactId) -> Json {
    json!({ "blake3": HEXLOWER.encode(&key.0) })
}

/// The steps that made an artifact at last.
fn makers(lineage: &Lineage, subject: Id) -> Vec<(Id, &Node)> {
    let of = |edge: &super::Edge| match (&edge.relation, edge.from) {
        (Relation::Made(_), step) if edge.to == subject => Some((step, lineage.nodes.get(&step)?)),
        _ => None,
    };
    lineage.edges.iter().filter_map(of).collect()
}

fn definition(lineage: &Lineage, subject: Id) -> Json {
    let external: Vec<Json> = makers(lineage, subject)
        .into_iter()
        .map(|(id, node)| {
            let mut object = json!({ "step": id.key() });
            put(&mut object, "name", node.label.as_deref());
            put(&mut object, "program", node.program.map(|key| key.to_string()));
            put(&mut object, "run", node.run.map(|run| run.to_string()));
            put(&mut object, "profile", node.profile);
            object
        })
        .collect();
    let steps = lineage.nodes.iter().filter(|(id, _)| matches!(id, Id::Step(_)));
    let steps: Vec<Json> = steps.map(|(id, node)| node.to_json(*id)).collect();
    let dependency = |(id, node): (&Id, &Node)| {
        let mut object = json!({ "uri": format!("urn:quipu:{id}") });
        match id {
            Id::Artifact(key) => put(&mut object, "digest", Some(digest(*key))),
            // Only whoever is shown the opening learns what this is.
            Id::Blinded(commitment) => {
                let digest = json!({ "quipuCommitment": HEXLOWER.encode(commitment) });
                put(&mut object, "digest", Some(digest));
            }
            Id::Step(_) | Id::Machine(_) => return None,
        }
        put(&mut object, "name", node.label.as_deref());
        put(&mut object, "mediaType", node.type_tag.as_deref().filter(|tag| tag.contains('/')));
        let mut notes = json!({});
        put(&mut notes, "domain", node.domain.map(|domain| domain.to_string()));
        put(&mut notes, "snapshot", node.snapshot.as_deref());
        let said = notes.as_object().is_some_and(|notes| !notes.is_empty());
        put(&mut object, "annotations", said.then_some(notes));
        Some(object)
    };
    let others = lineage.nodes.iter().filter(|(id, _)| **id != subject);
    json!({
        "buildType": BUILD_TYPE,
        "externalParameters": { "made": external },
        "internalParameters": { "steps": steps },
        "resolvedDependencies": others.filter_map(dependency).collect::<Vec<_>>(),
    })
}

fn details(lineage: &Lineage, subject: Id, builder: &str) -> Json {
    let makers = makers(lineage, subject);
    let by = |edge: &super::Edge| match (edge.from, &edge.relation) {
        (Id::Machine(key), Relation::By)
            if edge.to == subject || makers.iter().any(|(step, _)| *step == edge.to) =>
        {
            Some(format!("urn:quipu:machine:{key}"))
        }
        _ => None,
    };
    let id = lineage.edges.iter().find_map(by).unwrap_or_else(|| builder.to_owned());
    let mut details = json!({ "builder": { "id": id } });
    let run = makers.iter().find_map(|(_, node)| node.run);
    put(&mut details, "metadata", run.map(|run| json!({ "invocationId": run.to_string() })));
    let receipts: Vec<Json> = makers
        .iter()
        .filter_map(|(_, node)| node.receipt)
        .map(|key| json!({ "name": "receipt", "uri": format!("urn:quipu:artifact:{key}"), "digest": digest(key) }))
        .collect();
    put(&mut details, "byproducts", (!receipts.is_empty()).then_some(receipts));
    details
}
