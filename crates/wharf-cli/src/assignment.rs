//! What a member was assigned, read from the consumer protocol's bytes (ConsumerProtocolAssignment).
//!
//! The bytes come from other clients: whatever they hold, reading them ends, and what is no
//! assignment reads as none.

/// The assigned partitions.
pub(crate) fn partitions(bytes: &[u8]) -> Vec<(String, i32)> {
    read(bytes).unwrap_or_default()
}

fn read(mut bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let bytes = &mut bytes;
    take(bytes, 2)?;
    let mut assigned = Vec::new();
    for _ in 0..number(bytes)? {
        let length = u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?);
        let topic = std::str::from_utf8(take(bytes, usize::from(length))?).ok()?;
        for _ in 0..number(bytes)? {
            assigned.push((topic.to_owned(), number(bytes)?));
        }
    }
    Some(assigned)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(bytes, 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNMENT: &[u8] =
        b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\0\0\0\0\x05\xff\xff\xff\xff";

    #[test]
    fn an_assignment_is_read_and_rubbish_is_none() {
        let expected = vec![("ab".to_owned(), 0), ("ab".to_owned(), 5)];
        assert_eq!(partitions(ASSIGNMENT), expected);
        for length in 0..ASSIGNMENT.len() - 4 {
            assert!(
                partitions(&ASSIGNMENT[..length]).is_empty(),
                "cut at {length}"
            );
        }
        assert!(partitions(b"\0\0\x7f\xff\xff\xff\xff\xff").is_empty());
    }
}
