//! Which partition a key belongs to: murmur2, as Kafka's clients have it, so that all agree.

/// The partition of a key among `count`; 0 when there are none.
///
/// ```
/// use wharf_message::partitioner::partition;
///
/// assert_eq!(partition(b"foobar", 7), 1_357_151_166 % 7);
/// assert_eq!(partition(b"foobar", 1), 0);
/// ```
pub fn partition(key: &[u8], count: usize) -> usize {
    // Kafka clears the sign bit instead of taking the absolute value.
    let hash = murmur2(key) & 0x7fff_ffff;
    hash as usize % count.max(1)
}

/// MurmurHash2 with 32 bits and Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // The hash is of the length's low 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "as Kafka's clients do")]
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (at, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the test of Kafka's own `Utils.murmur2`.
    #[test]
    fn keys_are_hashed_as_kafka_hashes_them() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
            let place = partition(key.as_bytes(), 7);
            assert_eq!(place, (hash & 0x7fff_ffff) as usize % 7);
        }
    }
}
