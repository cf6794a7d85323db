//! Promise: in one generation of a group no partition belongs to two members.

use std::collections::BTreeMap;

use super::{Broken, broken};

const PROMISE: &str = "a partition has one owner in a generation";

/// Who was told to own what.
#[derive(Debug, Default)]
pub struct OneOwner {
    owners: BTreeMap<(u64, i32, u8), String>,
}

impl OneOwner {
    /// In this life of the node and this generation, `member` was told that it owns `partitions`.
    pub fn assigned(
        &mut self,
        (life, generation): (u64, i32),
        member: &str,
        partitions: &[u8],
    ) -> Result<(), Broken> {
        for partition in partitions {
            let owner = self.owners.entry((life, generation, *partition));
            let owner = owner.or_insert_with(|| member.to_owned());
            if owner != member {
                let detail = format!("{partition} of {generation}: {owner} and {member}");
                return broken(PROMISE, detail);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_owners_in_one_generation_are_found_and_one_after_the_other_is_right() {
        let mut owners = OneOwner::default();
        owners.assigned((1, 1), "a", &[0, 1]).unwrap();
        owners.assigned((1, 1), "a", &[0, 1]).unwrap();
        owners.assigned((1, 2), "b", &[0, 1]).unwrap();
        owners.assigned((2, 1), "b", &[0]).unwrap();
        owners.assigned((1, 1), "b", &[1]).unwrap_err();
    }
}
