//! PostgreSQL's hash of a text, which its function `hashtext` returns.
//!
//! Clients derive the numbers of advisory locks from names with this hash, so it must never change.
//! The algorithm is Bob Jenkins' lookup3 with another start value.
//! Source: <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/common/hashfn.c>

/// The start value of PostgreSQL, to which the length of the text is added.
const START: u32 = 0x9e37_79b9_u32.wrapping_add(3_923_095);

/// Number of bytes that are mixed at a time.
const BLOCK: usize = 12;

/// Returns the number that `hashtext` of PostgreSQL returns for a text.
pub fn text_hash(text: &str) -> i32 {
    let bytes = text.as_bytes();
    // PostgreSQL also uses the lowest 32 bits of the length.
    let mut state = [START.wrapping_add(bytes.len() as u32); 3];
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for block in blocks {
        add(&mut state, block);
        mix(&mut state);
    }
    // In the last block, the lowest byte of the third word is not used.
    let mut last = [0; BLOCK];
    let (low, high) = rest.split_at(rest.len().min(8));
    last[..low.len()].copy_from_slice(low);
    last[9..9 + high.len()].copy_from_slice(high);
    add(&mut state, &last);
    finish(state).cast_signed()
}

/// Adds the three words of a block to the state.
fn add(state: &mut [u32; 3], block: &[u8; BLOCK]) {
    let (words, _) = block.as_chunks::<4>();
    for (value, word) in state.iter_mut().zip(words) {
        *value = value.wrapping_add(u32::from_le_bytes(*word));
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    for [first, second, third] in [[4, 6, 8], [16, 19, 4]] {
        *a = a.wrapping_sub(*c) ^ c.rotate_left(first);
        *c = c.wrapping_add(*b);
        *b = b.wrapping_sub(*a) ^ a.rotate_left(second);
        *a = a.wrapping_add(*c);
        *c = c.wrapping_sub(*b) ^ b.rotate_left(third);
        *b = b.wrapping_add(*a);
    }
}

/// Mixes the state for the last time, and returns the hash.
fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_postgresql() {
        let expected = [
            -1_477_818_771,
            1_074_944_137,
            -1_086_392_228,
            -1_992_236_649,
            -1_379_736_791,
            -370_454_118,
            1_489_915_569,
            -66_683_019,
            -2_126_973_000,
            1_651_296_771,
            755_764_456,
            -1_494_243_903,
            631_527_812,
            28_686_851,
            -9_498_641,
        ];
        for (length, expected) in expected.into_iter().enumerate() {
            assert_eq!(text_hash(&"x".repeat(length)), expected, "{length}");
        }
        assert_eq!(text_hash("resource1"), 991_601_810);
    }
}
