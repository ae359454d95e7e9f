//! A value as its length and a 128-bit hash that grows with each append in constant time.
//!
//! The hash is a polynomial over the bytes in two fields of size 2^61 - 1: `hash(ab) = hash(a) * base^len(b) + hash(b)`.
//! Two different values of a history collide with a probability of about (length / 2^61)^2.

const MODULUS: u64 = (1 << 61) - 1;
const BASES: [u64; 2] = [0x0b8c_51d6_6f0a_9e37, 0x15a3_7ec1_92d4_4b6b];
/// No real hash: both lanes stay below [`MODULUS`].
const HIDDEN: [u64; 2] = [u64::MAX; 2];

/// A value that the key has, or is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) len: u64,
    hash: [u64; 2],
}

impl Content {
    pub(super) const EMPTY: Content = Content { len: 0, hash: [0; 2] };

    /// Some value that no read shows, so that its bytes do not matter. It equals no shown value.
    pub(super) fn hidden(len: u64) -> Content {
        Content { len, hash: HIDDEN }
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.hash == HIDDEN
    }

    pub(super) fn of(bytes: &[u8]) -> Content {
        Content::EMPTY.extended(bytes)
    }

    /// This value with `bytes` added, byte by byte.
    pub(super) fn extended(self, bytes: &[u8]) -> Content {
        let mut hash = self.hash;
        for &byte in bytes {
            for (lane, base) in hash.iter_mut().zip(BASES) {
                *lane = add(multiply(*lane, base), u64::from(byte) + 1);
            }
        }
        Content { len: self.len + bytes.len() as u64, hash }
    }

    /// This value with `fragment` added, in constant time.
    pub(super) fn then(self, fragment: &Fragment) -> Content {
        assert!(!self.is_hidden(), "a hidden value has no hash to extend");
        let [first, second] = self.hash;
        let Fragment { content: tail, shift } = fragment;
        let hash =
            [add(multiply(first, shift[0]), tail.hash[0]), add(multiply(second, shift[1]), tail.hash[1])];
        Content { len: self.len + tail.len, hash }
    }

    /// All of it in one number, for the memory of visited configurations.
    pub(super) fn digest(self) -> u128 {
        let low = mix(self.hash[0] ^ mix(self.len));
        let high = mix(self.hash[1] ^ low);
        u128::from(high) << 64 | u128::from(low)
    }
}

/// Bytes to append.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    pub(super) content: Content,
    /// `base^len` in each lane.
    shift: [u64; 2],
}

impl Fragment {
    pub(super) fn of(bytes: &[u8]) -> Fragment {
        Fragment { content: Content::of(bytes), shift: BASES.map(|base| power(base, bytes.len() as u64)) }
    }
}

/// A fixed pseudo-random 128-bit number for each `index` (splitmix64, Steele et al. 2014).
pub(super) fn scatter(index: u64) -> u128 {
    let low = mix(index.wrapping_mul(2));
    let high = mix(index.wrapping_mul(2).wrapping_add(1));
    u128::from(high) << 64 | u128::from(low)
}

fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= MODULUS { sum - MODULUS } else { sum }
}

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 = 1 in this field, so the upper bits are added to the lower ones.
    add((product as u64) & MODULUS, (product >> 61) as u64)
}

fn power(base: u64, exponent: u64) -> u64 {
    let (mut result, mut square, mut rest) = (1, base, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        rest >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_a_fragment_equals_hashing_the_concatenation() {
        let text = b"a value, and another one\0\0 behind it";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(Content::of(head).then(&Fragment::of(tail)), Content::of(text), "cut at {cut}");
        }
    }

    #[test]
    fn zero_bytes_count() {
        assert_ne!(Content::of(b"\0"), Content::of(b"\0\0"));
        assert_ne!(Content::of(b"a\0b"), Content::of(b"ab\0"));
        assert_ne!(Content::of(b""), Content::hidden(0));
    }
}
