//! The order of steps.

use std::collections::{BTreeMap, BTreeSet};

use super::{Program, Source, Step};

impl Step {
    /// The steps whose outputs it takes.
    pub(crate) fn needs<'s>(&'s self) -> BTreeSet<&'s str> {
        let of = |from: &'s Source| match from {
            Source::Step(port) => Some(port.step.as_str()),
            _ => None,
        };
        self.inputs.values().filter_map(|input| of(&input.from)).collect()
    }
}

/// The steps, each after those that it takes something from, else by id. If some wait for each
/// other: one circle of them, each before the one that it waits for. Steps that are not there are
/// passed over.
pub(crate) fn order(program: &Program) -> Result<Vec<&str>, Vec<&str>> {
    let mut waits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut feeds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, step) in &program.steps {
        let mut needs = step.needs();
        needs.retain(|need| program.steps.contains_key(*need));
        for need in &needs {
            feeds.entry(need).or_default().push(id);
        }
        waits.insert(id, needs);
    }
    let mut ready: BTreeSet<&str> =
        waits.iter().filter(|(_, needs)| needs.is_empty()).map(|(id, _)| *id).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(id) = ready.pop_first() {
        order.push(id);
        waits.remove(id);
        for fed in feeds.get(id).into_iter().flatten() {
            if let Some(needs) = waits.get_mut(fed) {
                needs.remove(id);
                if needs.is_empty() {
                    ready.insert(fed);
                }
            }
        }
    }
    if waits.is_empty() { Ok(order) } else { Err(circle(&waits)) }
}

/// A circle among steps that all wait for one of themselves.
fn circle<'p>(waits: &BTreeMap<&'p str, BTreeSet<&'p str>>) -> Vec<&'p str> {
    let mut path: Vec<&str> = Vec::new();
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    let mut next = waits.keys().next().copied();
    while let Some(id) = next {
        if let Some(start) = place.get(id) {
            return path.split_off(*start);
        }
        place.insert(id, path.len());
        path.push(id);
        next = waits.get(id).and_then(BTreeSet::first).copied();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::program::{Action, Port, StepInput};

    fn program(needs: &[(&str, &[&str])]) -> Program {
        let step = |needs: &[&str]| Step {
            action: Action::Operator { name: "concat".into(), parameters: Default::default() },
            inputs: needs
                .iter()
                .map(|need| {
                    let port = Port { step: (*need).into(), output: "out".into() };
                    let from = Source::Step(port);
                    ((*need).to_owned(), StepInput { from, type_tag: None })
                })
                .collect(),
            outputs: [("out".to_owned(), None)].into(),
            limits: Limits::default(),
            labels: Vec::new(),
        };
        let steps = needs.iter().map(|(id, needs)| ((*id).to_owned(), step(needs))).collect();
        Program { steps, ..Program::default() }
    }

    #[test]
    fn steps_come_after_what_they_need() {
        let p = program(&[("a", &["c"]), ("b", &[]), ("c", &["b"]), ("d", &["a", "gone"])]);
        assert_eq!(order(&p), Ok(vec!["b", "c", "a", "d"]));
    }

    #[test]
    fn a_circle_is_named_without_what_leads_to_it() {
        let p = program(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"]), ("e", &[])]);
        assert_eq!(order(&p), Err(vec!["b", "c", "d"]));
        assert_eq!(order(&program(&[("x", &["x"])])), Err(vec!["x"]));
    }

    #[test]
    fn a_chain_of_any_length_is_no_matter_of_the_stack() {
        let ids: Vec<String> = (0..10_000).map(|n| format!("{n:05}")).collect();
        let mut needs: Vec<Vec<&str>> = vec![vec![]];
        needs.extend(ids.windows(2).map(|pair| vec![pair[0].as_str()]));
        let steps: Vec<_> =
            ids.iter().zip(&needs).map(|(id, needs)| (id.as_str(), &needs[..])).collect();
        assert_eq!(order(&program(&steps)).map(|order| order.len()), Ok(10_000));
    }
}
