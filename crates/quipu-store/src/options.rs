//! What a store can be told when it is opened.

/// Sizes that a store keeps to. They may differ from one opening to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// A block is sealed when it holds this many events.
    pub block_events_max: usize,
    /// A block is sealed when its payloads and links take this many bytes before compression.
    pub block_bytes_max: usize,
    /// Events in a page: what is read and unpacked at once.
    pub page_events: usize,
    /// How many bytes of unpacked pages are kept in memory.
    pub cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            block_events_max: 32_768,
            block_bytes_max: 16 << 20,
            page_events: 1024,
            cache_bytes: 16 << 20,
        }
    }
}
