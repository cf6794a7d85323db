//! The known name that somebody most likely meant.

/// `did you mean …?` with the nearest of `known`, or nothing when none is near.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean {near}?"),
        None => String::new(),
    }
}

/// The nearest of `known`, when it is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let all = known.into_iter();
    let scored = all.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, near) = scored.min()?;
    let near_enough = (name.chars().count() / 3).max(2);
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
}
