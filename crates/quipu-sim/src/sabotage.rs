//! Breaking rules on purpose, right after all trouble ended.

use crate::report::{Finding, Sabotage};
use crate::world::World;

impl World {
    /// Breaks the rule that the options name, if any.
    pub(crate) fn sabotage(&mut self) -> Result<(), Finding> {
        match self.options.sabotage {
            Some(Sabotage::LyingDisk | Sabotage::LateClock | Sabotage::KeepErased) => Ok(()),
            _ => Ok(()),
        }
    }
}
