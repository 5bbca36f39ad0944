//! Small numbers as header values that need no allocation.

use http::HeaderValue;

/// The greatest number that is in [`TEXT`].
const MOST: usize = 999;

/// The numbers from 0 to [`MOST`], each in three places: the digits are at the end.
static TEXT: [[u8; 3]; MOST + 1] = text();

const fn text() -> [[u8; 3]; MOST + 1] {
    const DIGITS: &[u8; 10] = b"0123456789";
    let mut text = [[0; 3]; MOST + 1];
    let mut number = 0;
    while number <= MOST {
        text[number] = [DIGITS[number / 100], DIGITS[number / 10 % 10], DIGITS[number % 10]];
        number += 1;
    }
    text
}

/// Returns the number as a header value.
pub(super) fn header_value(number: u64) -> HeaderValue {
    let known = usize::try_from(number).ok().and_then(|number| TEXT.get(number));
    let zeros = match number {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    let text = known.and_then(|digits| std::str::from_utf8(&digits[zeros..]).ok());
    text.map_or_else(|| number.into(), HeaderValue::from_static)
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_usual() {
        for number in [0, 1, 9, 10, 42, 99, 100, 999, 1_000, u64::MAX] {
            assert_eq!(header_value(number).to_str().unwrap(), number.to_string());
        }
    }
}
