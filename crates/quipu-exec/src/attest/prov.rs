//! Lineage as W3C PROV-JSON (<https://www.w3.org/submissions/prov-json/>).

use serde_json::{Map, Value as Json, json};

use super::{Edge, Id, Lineage, Node, Relation};

/// What our names stand in.
const NAMESPACE: &str = "urn:quipu:";

/// The document: artifacts are entities, steps activities, machines agents.
pub fn to_prov_json(lineage: &Lineage) -> Json {
    let (mut entities, mut activities, mut agents) = (Map::new(), Map::new(), Map::new());
    for (id, node) in &lineage.nodes {
        let into = match id {
            Id::Artifact(_) | Id::Blinded(_) => &mut entities,
            Id::Step(_) => &mut activities,
            Id::Machine(_) => &mut agents,
        };
        into.insert(name(*id), attributes(*id, node));
    }
    let mut document = json!({ "prefix": { "quipu": NAMESPACE } });
    let mut sections = vec![("entity", entities), ("activity", activities), ("agent", agents)];
    let mut relations: Vec<(&str, Map<String, Json>)> = Vec::new();
    for (number, edge) in lineage.edges.iter().enumerate() {
        let Some((section, relation)) = relation(edge) else { continue };
        let key = format!("_:r{number}");
        match relations.iter_mut().find(|(name, _)| *name == section) {
            Some((_, entries)) => {
                entries.insert(key, relation);
            }
            None => relations.push((section, [(key, relation)].into_iter().collect())),
        }
    }
    sections.extend(relations);
    if let Some(fields) = document.as_object_mut() {
        let filled = sections.into_iter().filter(|(_, entries)| !entries.is_empty());
        fields.extend(filled.map(|(name, entries)| (name.to_owned(), Json::Object(entries))));
    }
    document
}

/// A qualified name: colons would end the prefix, so there is a hyphen after the kind.
fn name(id: Id) -> String {
    format!("quipu:{}-{}", id.kind(), id.key())
}

fn attributes(id: Id, node: &Node) -> Json {
    let mut object =
        json!({ "prov:type": { "$": format!("quipu:{}", id.kind()), "type": "xsd:QName" } });
    let Some(fields) = object.as_object_mut() else { return object };
    let texts = [
        ("prov:label", node.label.clone()),
        ("quipu:type", node.type_tag.clone()),
        ("quipu:domain", node.domain.map(|domain| domain.to_string())),
        ("quipu:snapshot", node.snapshot.clone()),
        ("quipu:run", node.run.map(|run| run.to_string())),
        ("quipu:receipt", node.receipt.map(|receipt| receipt.to_string())),
        ("quipu:program", node.program.map(|program| program.to_string())),
        // Whole numbers as text: JSON readers disagree above 2^53.
        ("quipu:size", node.size.map(|size| size.to_string())),
        ("quipu:profile", node.profile.map(|profile| profile.to_string())),
    ];
    let there = texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into())));
    fields.extend(there);
    object
}

/// The relation of PROV, if it has one for these ends.
fn relation(edge: &Edge) -> Option<(&'static str, Json)> {
    let (from, to) = (name(edge.from), name(edge.to));
    let is_entity = |id| matches!(id, Id::Artifact(_) | Id::Blinded(_));
    match (&edge.relation, edge.from, edge.to) {
        (Relation::Used(role), entity, Id::Step(_)) if is_entity(entity) => {
            Some(("used", json!({ "prov:activity": to, "prov:entity": from, "prov:role": role })))
        }
        (Relation::Made(role), Id::Step(_), entity) if is_entity(entity) => Some((
            "wasGeneratedBy",
            json!({ "prov:entity": to, "prov:activity": from, "prov:role": role }),
        )),
        (Relation::Derived(kind), one, other) if is_entity(one) && is_entity(other) => Some((
            "wasDerivedFrom",
            json!({ "prov:generatedEntity": to, "prov:usedEntity": from, "quipu:edge": kind }),
        )),
        (Relation::By, Id::Machine(_), Id::Step(_)) => {
            Some(("wasAssociatedWith", json!({ "prov:activity": to, "prov:agent": from })))
        }
        (Relation::By, Id::Machine(_), entity) if is_entity(entity) => {
            Some(("wasAttributedTo", json!({ "prov:entity": to, "prov:agent": from })))
        }
        _ => None,
    }
}
