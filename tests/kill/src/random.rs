//! Numbers that look random and follow from a seed (SplitMix64), and what is drawn with them.

/// The generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be zero.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let count = u64::try_from(choices.len()).expect("a slice's length fits");
        let index = usize::try_from(self.below(count)).expect("an index fits");
        &choices[index]
    }
}

/// Draws each of its cards once, in any order, and then each again.
#[derive(Debug)]
pub(crate) struct Deck<T: 'static> {
    cards: &'static [T],
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    /// A deck of these cards, of which there must be one.
    pub(crate) fn of(cards: &'static [T]) -> Self {
        let left = Vec::new();
        Self { cards, left }
    }

    pub(crate) fn draw(&mut self, random: &mut Random) -> T {
        if self.left.is_empty() {
            self.left = self.cards.to_vec();
        }
        let count = u64::try_from(self.left.len()).expect("a vector's length fits");
        let index = usize::try_from(random.below(count)).expect("an index fits");
        self.left.swap_remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deck_draws_each_card_once_before_any_again() {
        let mut random = Random::new(7);
        let mut deck = Deck::of(&[1, 2, 3, 3]);
        for _round in 0..20 {
            let mut drawn = [(); 4].map(|()| deck.draw(&mut random));
            drawn.sort_unstable();
            assert_eq!(drawn, [1, 2, 3, 3]);
        }
    }
}
