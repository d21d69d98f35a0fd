//! What a frame takes on the air in LoRa.
//!
//! The formula is that of Semtech's AN1200.13 and of the SX127x's data sheet, for a bandwidth of 125 kHz, coding rate
//! 4/5, a preamble of 8 symbols, an explicit header and a check sum. A frame takes longer than its bytes at the
//! nominal rate: there is the preamble, and the last symbols are sent whole.

use crate::plan::Us;

/// Hertz.
const BANDWIDTH: u64 = 125_000;
/// Coding rate 4/5: bits on the air for each four of data.
const CODED: u64 = 5;
/// Symbols of the preamble and of the sync word, in quarters.
const PREAMBLE_QUARTERS: u64 = 4 * 8 + 17;
/// Symbols that every frame has.
const SYMBOLS_LEAST: u64 = 8;
/// Bits of the header and of the check sum, as the formula counts them.
const HEAD_BITS: u64 = 28 + 16;
/// Symbols that are longer are sent at a low rate.
const LOW_RATE_SYMBOL: Us = 16_000;
/// The longest frame that the length field of the header allows.
pub(crate) const FRAME_BYTES_MAX: u64 = 255;

/// A spreading factor, 7 to 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lora(u64);

impl Lora {
    /// That spreading factor; the nearest there is.
    pub(crate) fn new(spreading: u64) -> Self {
        Self(spreading.clamp(7, 12))
    }

    fn symbol(self) -> Us {
        (1_000_000 << self.0) / BANDWIDTH
    }

    /// Bits per second, rounded: what data sheets give.
    pub(crate) fn bitrate(self) -> u64 {
        let bits = self.0 * BANDWIDTH * (CODED - 1);
        let per = CODED << self.0;
        (bits + per / 2) / per
    }

    /// How long so many bytes take.
    pub(crate) fn airtime(self, bytes: u64) -> Us {
        let symbol = self.symbol();
        let per_block = 4 * (self.0 - 2 * u64::from(symbol > LOW_RATE_SYMBOL));
        let blocks = (8 * bytes + HEAD_BITS).saturating_sub(4 * self.0).div_ceil(per_block);
        symbol * PREAMBLE_QUARTERS / 4 + symbol * (SYMBOLS_LEAST + blocks * CODED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of Semtech's LoRa calculator.
    #[test]
    fn airtimes_are_those_of_the_data_sheet() {
        let cases = [(7, 10, 41_216), (7, 255, 399_616), (9, 10, 144_384), (9, 222, 1_106_944)];
        for (spreading, bytes, expected) in cases {
            assert_eq!(Lora::new(spreading).airtime(bytes), expected, "{spreading}, {bytes}");
        }
        assert_eq!(Lora::new(9).airtime(255), 1_250_304);
        assert_eq!(Lora::new(12).airtime(64), 2_793_472);
    }

    #[test]
    fn nominal_rates_are_those_of_the_data_sheet() {
        let rates = [7, 9, 12].map(|spreading| Lora::new(spreading).bitrate());
        assert_eq!(rates, [5_469, 1_758, 293]);
    }
}
