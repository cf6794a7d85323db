//! What the machine does to groups at work: its clock is set, its power fails.

use super::groups::{
    DAY, HALF_AN_HOUR, SESSION, commit, committed, kinds, member, offset, one_member, simple,
    start_commit, state,
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

#[test]
fn no_acknowledged_offset_is_lost_whenever_the_power_fails() {
    for seed in 0..8_u64 {
        let mut world = World::new();
        world.topic("orders", 1, &[]);
        let (mut sent, mut acknowledged) = (-1, -1);
        let mut random = seed;
        for _ in 0..30 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(seed | 1);
            world.hold_commits((random >> 60) & 1 == 0);
            sent += 1;
            let running = start_commit(&world, &simple("g"), vec![offset("orders", 0, sent)]);
            world.settle();
            if running.is_done() {
                assert_eq!(kinds(world.finish(&running).unwrap()), [None]);
                acknowledged = sent;
            }
            if (random >> 40).is_multiple_of(4) {
                world = world.lose_power();
                let found = committed(&world, "g", "orders", 0).offset;
                assert!(
                    (acknowledged..=sent).contains(&found),
                    "seed {seed}: {found}"
                );
            }
        }
    }
}
