//! Somebody sets the machine's clock while groups are at work.

use super::groups::{
    DAY, HALF_AN_HOUR, SESSION, commit, committed, member, offset, one_member, state,
};
use super::support::World;

#[test]
fn a_clock_that_jumps_neither_evicts_members_nor_keeps_dead_ones() {
    for jump in [HALF_AN_HOUR, DAY * 30] {
        let jump = i64::try_from(jump.as_millis()).unwrap();
        for jump in [jump, -jump] {
            let world = World::new();
            world.topic("orders", 1, &[]);
            let joined = one_member(&world);
            let stored = offset("orders", 0, 5);
            commit(&world, &member("g", &joined), vec![stored]).unwrap();
            world.jump_clock(jump);
            world.advance(SESSION / 2);
            assert_eq!(state(&world, "g"), "Stable", "{jump}");
            world.jump_clock(-jump);
            world.advance(SESSION);
            assert_eq!(state(&world, "g"), "Empty", "{jump}");
            assert_eq!(committed(&world, "g", "orders", 0).offset, 5, "{jump}");
        }
    }
}
