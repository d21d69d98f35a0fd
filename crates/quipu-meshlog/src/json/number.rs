//! Python's numbers: whole ones without bound, and floats in the spelling of `repr`.

use std::cmp::Ordering;

/// A whole number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Int {
    /// One that fits into 64 bits. Always in this form if it does.
    Small(i64),
    /// One that does not.
    Big(BigInt),
}

/// A whole number beyond 64 bits, as decimal digits with a sign if it is negative.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BigInt(Box<str>);

impl Int {
    /// The number of decimal digits with perhaps a `-` before them, without needless zeros (but `-0`).
    pub(crate) fn from_digits(digits: &str) -> Self {
        match digits.parse() {
            Ok(small) => Self::Small(small),
            Err(_) => Self::Big(BigInt(digits.into())),
        }
    }

    /// The number, if it fits.
    pub const fn as_i64(&self) -> Option<i64> {
        if let Self::Small(int) = self { Some(*int) } else { None }
    }

    /// The number, if it is not negative and fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Small(int) => u64::try_from(*int).ok(),
            Self::Big(big) => big.0.parse().ok(),
        }
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        match self {
            Self::Small(int) => *int < 0,
            Self::Big(big) => big.is_negative(),
        }
    }

    /// The nearest float, as Python's `float()` would give where it can.
    pub fn to_f64(&self) -> f64 {
        match self {
            Self::Small(int) => *int as f64,
            // Digits are what a float is read from, too; beyond its range it is infinite.
            Self::Big(big) => big.0.parse().unwrap_or(f64::NAN),
        }
    }

    /// One more.
    #[must_use]
    pub fn plus_one(&self) -> Self {
        match self {
            Self::Small(int) => match int.checked_add(1) {
                Some(next) => Self::Small(next),
                None => Self::from(int.cast_unsigned() + 1),
            },
            Self::Big(big) => big.plus_one(),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Small(int) => write_small(*int, out),
            Self::Big(big) => out.extend_from_slice(big.0.as_bytes()),
        }
    }
}

/// Digits of a number. By hand, because numbers are a good part of what is written.
fn write_small(int: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), int.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if int < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

impl BigInt {
    fn is_negative(&self) -> bool {
        self.0.starts_with('-')
    }

    fn magnitude(&self) -> &str {
        self.0.trim_start_matches('-')
    }

    fn plus_one(&self) -> Int {
        let (from, to, end) = if self.is_negative() { (b'0', b'9', -1i8) } else { (b'9', b'0', 1) };
        let mut digits = self.magnitude().as_bytes().to_vec();
        let Some(at) = digits.iter().rposition(|digit| *digit != from) else {
            // Only nines: a digit more. (A negative magnitude is never zero.)
            return Int::from_digits(&format!("1{}", "0".repeat(digits.len())));
        };
        digits[at] = digits[at].wrapping_add_signed(end);
        digits[at + 1..].fill(to);
        let digits: String = digits.into_iter().map(char::from).collect();
        let digits = digits.trim_start_matches('0');
        Int::from_digits(&if self.is_negative() { format!("-{digits}") } else { digits.to_owned() })
    }
}

impl From<u64> for Int {
    fn from(int: u64) -> Self {
        match i64::try_from(int) {
            Ok(small) => Self::Small(small),
            Err(_) => Self::Big(BigInt(int.to_string().into())),
        }
    }
}

impl From<i64> for Int {
    fn from(int: i64) -> Self {
        Self::Small(int)
    }
}

impl From<i128> for Int {
    fn from(int: i128) -> Self {
        match i64::try_from(int) {
            Ok(small) => Self::Small(small),
            Err(_) => Self::Big(BigInt(int.to_string().into())),
        }
    }
}

impl std::fmt::Display for Int {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Small(int) => int.fmt(f),
            Self::Big(big) => big.0.fmt(f),
        }
    }
}

impl PartialOrd for Int {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Int {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(a), Self::Small(b)) => a.cmp(b),
            // A big number is further from zero than any small one.
            (Self::Small(_), Self::Big(b)) if b.is_negative() => Ordering::Greater,
            (Self::Small(_), Self::Big(_)) => Ordering::Less,
            (Self::Big(_), Self::Small(_)) => other.cmp(self).reverse(),
            (Self::Big(a), Self::Big(b)) => match (a.is_negative(), b.is_negative()) {
                (false, true) => Ordering::Greater,
                (true, false) => Ordering::Less,
                (negative, _) => {
                    let (a, b) = (a.magnitude(), b.magnitude());
                    let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
                    if negative { order.reverse() } else { order }
                }
            },
        }
    }
}

/// Exponents from which on, and below which, Python writes an exponent.
const EXPONENT_MAX: i32 = 16;
const EXPONENT_MIN: i32 = -4;

/// Writes a float as Python's `repr` does: the fewest digits that read back the same, of those the nearest, of
/// two equally near ones the even (the standard library takes the upper); with an exponent where that is
/// shorter. `nan` and the infinities are for the caller to spell.
pub(crate) fn write_float(float: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    let (digits, exponent) = digits_of(buffer.format_finite(float.abs()));
    if float.is_sign_negative() {
        out.push(b'-');
    }
    if (EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) {
        write_plain(&digits, exponent, out);
        return;
    }
    let (first, more) = digits.split_at(1);
    let point = if more.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let exponent = exponent.unsigned_abs();
    out.extend_from_slice(format!("{first}{point}{more}e{sign}{exponent:02}").as_bytes());
}

/// The digits of a spelled number, without zeros at either end, and the exponent of the first.
fn digits_of(spelled: &str) -> (String, i32) {
    let (mantissa, exponent) = spelled.split_once('e').unwrap_or((spelled, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0');
    if digits.is_empty() {
        return ("0".to_owned(), 0);
    }
    let exponent: i32 = exponent.parse().unwrap_or(0);
    (digits.to_owned(), exponent + whole.len() as i32 - 1 - zeros as i32)
}

/// Digits of a number below 10^16, of which the first stands for 10^exponent.
fn write_plain(digits: &str, exponent: i32, out: &mut Vec<u8>) {
    let zeros = |count: usize| std::iter::repeat_n(b'0', count);
    match usize::try_from(exponent) {
        Err(_) => {
            out.extend_from_slice(b"0.");
            out.extend(zeros(exponent.unsigned_abs() as usize - 1));
            out.extend_from_slice(digits.as_bytes());
        }
        Ok(whole) if digits.len() <= whole + 1 => {
            out.extend_from_slice(digits.as_bytes());
            out.extend(zeros(whole + 1 - digits.len()));
            out.extend_from_slice(b".0");
        }
        Ok(whole) => {
            out.extend_from_slice(&digits.as_bytes()[..=whole]);
            out.push(b'.');
            out.extend_from_slice(&digits.as_bytes()[whole + 1..]);
        }
    }
}
