//! Frames: four bytes of length, most significant first, and a message.

use crate::limits::FRAME_BYTES_MAX;

/// A length that no frame has. Nothing after it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes is announced, at most {FRAME_BYTES_MAX} are allowed")]
pub struct FrameError(pub usize);

/// Bytes of the length.
const HEAD: usize = 4;

/// A message as a frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD + message.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// Takes bytes as they come, and gives messages.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Frames {
    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes of the next message, if it is whole.
    ///
    /// # Errors
    /// If no frame can be so long.
    pub fn pop(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some(head) = self.bytes[self.at..].first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError(length));
        }
        let from = self.at + HEAD;
        let Some(message) = self.bytes.get(from..from + length) else { return Ok(None) };
        self.at = from + length;
        Ok(Some(message))
    }
}
