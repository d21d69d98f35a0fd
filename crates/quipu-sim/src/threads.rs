//! Turns of one virtual time are independent of each other, so that several threads may run them.
//! The results come in the order of machines, whoever ran them.

use crate::machine::{Machine, Turn};
use crate::plan::Us;

/// From this many turns on it is worth while to share them.
const SHARED_FROM: usize = 8;

/// Runs the turns of the machines that are due (sorted).
pub(crate) fn turns(machines: &mut [Machine], due: &[usize], now: Us, threads: usize) -> Vec<Turn> {
    let due_machines =
        machines.iter_mut().filter(|machine| due.binary_search(&machine.index).is_ok());
    if threads < 2 || due.len() < SHARED_FROM {
        return due_machines.map(|machine| machine.turn(now)).collect();
    }
    let mut list: Vec<&mut Machine> = due_machines.collect();
    let part = list.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let run = |chunk: Vec<&mut Machine>| -> Vec<Turn> {
            chunk.into_iter().map(|machine| machine.turn(now)).collect()
        };
        let mut handles = Vec::new();
        while list.len() > part {
            let rest = list.split_off(part);
            let chunk = std::mem::replace(&mut list, rest);
            handles.push(scope.spawn(move || run(chunk)));
        }
        let last = run(list);
        let mut all: Vec<Turn> = handles
            .into_iter()
            .flat_map(|handle| match handle.join() {
                Ok(turns) => turns,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect();
        all.extend(last);
        all
    })
}
