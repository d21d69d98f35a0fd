//! Links over small and slow media, by a helper program.

mod inlet;
mod lane;
pub mod limits;
pub mod stream;
