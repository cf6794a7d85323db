//! Joining CRC-32C checksums: that of two pieces from those of each, without reading the second again.
//!
//! A checksum is a polynomial modulo [`POLYNOMIAL`]; zeros appended to what it covers multiply it by a
//! power of x, and what stands there instead of the zeros is added. Bit 31 is the power 0.

/// The polynomial of CRC-32C, lowest power first, without the highest one.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// 1, as a polynomial.
const ONE: u32 = 1 << 31;

/// x to the power of 2 to the power of the index.
const POWERS: [u32; 64] = {
    let mut powers = [ONE >> 1; 64];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = product(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

const fn product(left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut bit = ONE;
    while bit != 0 {
        if left & bit != 0 {
            product ^= right;
        }
        right = (right >> 1) ^ (if right & 1 == 0 { 0 } else { POLYNOMIAL });
        bit >>= 1;
    }
    product
}

/// The checksum of two pieces, the second of which has `bytes` bytes.
pub(crate) fn joined(first: u32, second: u32, bytes: usize) -> u32 {
    let mut shift = ONE;
    let mut rest = bytes;
    // A byte is eight powers of x, so its count starts at the third square.
    let mut at = 3;
    while rest > 0 {
        if rest & 1 == 1 {
            shift = product(POWERS[at], shift);
        }
        rest >>= 1;
        at += 1;
    }
    product(shift, first) ^ second
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joining_is_reading_on(first in vec(any::<u8>(), 0..300), second in vec(any::<u8>(), 0..5000)) {
            let whole = crc32c::crc32c(&[first.clone(), second.clone()].concat());
            let parts = (crc32c::crc32c(&first), crc32c::crc32c(&second));
            prop_assert_eq!(joined(parts.0, parts.1, second.len()), whole);
        }
    }

    #[test]
    fn a_large_second_piece_is_joined() {
        let second = vec![7; (3 << 20) + 5];
        let whole = crc32c::crc32c_append(crc32c::crc32c(b"first"), &second);
        let parts = (crc32c::crc32c(b"first"), crc32c::crc32c(&second));
        assert_eq!(joined(parts.0, parts.1, second.len()), whole);
    }
}
