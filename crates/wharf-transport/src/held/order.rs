//! The order of headers, for protocols that keep them by name: a permutation as text, beside them.

use wharf_message::Headers;

/// Where the headers stand, sorted by name (those of one name in their order): the place each had.
/// `None` when they are sorted already.
pub(crate) fn order_of(headers: &Headers) -> Option<String> {
    let names: Vec<&str> = headers.iter().map(|(name, _)| name).collect();
    if names.is_sorted() {
        return None;
    }
    let mut places: Vec<usize> = (0..names.len()).collect();
    places.sort_by_key(|place| names[*place]);
    let places: Vec<String> = places.iter().map(usize::to_string).collect();
    Some(places.join(","))
}

/// The headers, which are in any order, as `order` says they stood. Sorted by name when it does not
/// fit, because somebody on the way added or removed one.
pub(crate) fn restored(headers: Headers, order: Option<&str>) -> Headers {
    let mut entries = headers.into_entries();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    let places: Option<Vec<usize>> =
        order.and_then(|order| order.split(',').map(|it| it.parse().ok()).collect());
    let Some(places) = places.filter(|places| is_permutation(places, entries.len())) else {
        return entries.into_iter().collect();
    };
    let mut placed: Vec<_> = places.into_iter().zip(entries).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, entry)| entry).collect()
}

fn is_permutation(places: &[usize], count: usize) -> bool {
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_in_the_order_they_were_given(
            entries in proptest::collection::vec(("[a-c]", 0_u8..4), 0..9),
        ) {
            let headers: Headers = entries
                .into_iter()
                .map(|(name, value)| (name.into(), Some(vec![value].into())))
                .collect();
            let order = order_of(&headers);
            let mut shuffled = headers.clone().into_entries();
            // By name only, as a map does.
            shuffled.sort_by(|(left, _), (right, _)| right.cmp(left));
            let back = restored(shuffled.into_iter().collect(), order.as_deref());
            prop_assert_eq!(back, headers);
        }
    }

    #[test]
    fn an_order_that_does_not_fit_is_ignored() {
        let headers = || {
            let mut headers = Headers::default();
            headers.push("b", "1");
            headers.push("a", "2");
            headers
        };
        for order in ["0", "0,0", "0,2", "x,y", "", "0,1,2"] {
            let names = restored(headers(), Some(order));
            let names: Vec<_> = names.iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["a", "b"], "{order}");
        }
    }
}
