//! The known name that somebody most likely meant.

/// The longest name that is looked into: what it costs grows with its square.
const NAME_MAX: usize = 200;

/// `did you mean …?` with the nearest of `known`, or nothing when none is near.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean {near}?"),
        None => String::new(),
    }
}

/// The nearest of `known`, when it is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length > NAME_MAX {
        return None;
    }
    let near_enough = (length / 3).max(2);
    let all = known.into_iter();
    // One is at least as far as its length is another.
    let all = all.filter(|known| known.chars().count().abs_diff(length) <= near_enough);
    let scored = all.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, near) = scored.min()?;
    (distance <= near_enough && distance > 0).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_found_and_a_foreign_one_is_not() {
        let known = ["shop.orders", "shop.stock"];
        assert_eq!(nearest("shop.order", known), Some("shop.orders"));
        assert_eq!(nearest("invoices", known), None);
        assert_eq!(hint("shop.stok", known), "; did you mean shop.stock?");
    }

    #[test]
    fn a_name_without_end_is_looked_for_nowhere() {
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str(), "x"]), None);
        assert_eq!(nearest("x", [long.as_str()]), None);
    }
}
