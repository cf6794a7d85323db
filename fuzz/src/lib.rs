//! Test-only: everything that is fed with bytes nobody trusts, as one function each.
//!
//! A target takes any bytes and must return: a panic, a hang or a large allocation is a defect.
//! `cargo xtask fuzz TARGET` lets libFuzzer search for one, guided by coverage; the unit tests here
//! feed every seed and everything that was ever found. Seeds are made by code, never stored: they
//! are what the log and Kafka clients really write, so that the search starts deep inside.
//! Targets read no clock, touch no real disk, and give the same result for the same bytes.

mod batches;
mod disk;
mod expressions;
mod found;
mod frames;
mod input;
mod journal;
mod pgoutput;
mod planted;
mod registry;
mod requests;
mod schemas;
mod segments;
mod snapshots;
#[expect(dead_code, reason = "the protocol's tests need more of it")]
#[expect(clippy::unwrap_used, reason = "a node in memory that cannot fail")]
#[path = "../../crates/wharf-kafka/tests/it/support.rs"]
mod support;

pub use found::FOUND;

/// Something that takes bytes from outside.
#[derive(Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it feeds, in a few words.
    pub about: &'static str,
    /// Feeds it; panics when it found a defect.
    pub run: fn(&[u8]),
    /// What the search starts from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub static TARGETS: &[Target] = &[
    Target {
        name: "frames",
        about: "one frame: header, shape guard and decoder of its request",
        run: frames::run,
        seeds: frames::seeds,
    },
    Target {
        name: "requests",
        about: "the requests of one connection, carried out",
        run: requests::run,
        seeds: requests::seeds,
    },
    Target {
        name: "batches",
        about: "a record batch: verified, read, stored and searched",
        run: batches::run,
        seeds: batches::seeds,
    },
    Target {
        name: "journal",
        about: "journal files, as a start finds them",
        run: journal::run,
        seeds: journal::seeds,
    },
    Target {
        name: "segments",
        about: "segments and their indexes, changed behind the log's back",
        run: segments::run,
        seeds: segments::seeds,
    },
    Target {
        name: "snapshots",
        about: "snapshots with a right checksum and any content",
        run: snapshots::run,
        seeds: snapshots::seeds,
    },
    Target {
        name: "pgoutput",
        about: "a message of the log of Postgres, and what is written of it again",
        run: pgoutput::run,
        seeds: pgoutput::seeds,
    },
    Target {
        name: "schemas",
        about: "two schemas of one kind, compared and used on a payload",
        run: schemas::run,
        seeds: schemas::seeds,
    },
    Target {
        name: "registry",
        about: "a topic of schemas that anybody may have written, and changes on it",
        run: registry::run,
        seeds: registry::seeds,
    },
    Target {
        name: "expressions",
        about: "an expression of a saga, in both languages, over any data",
        run: expressions::run,
        seeds: expressions::seeds,
    },
    Target {
        name: "planted",
        about: "a reader with a planted bug, which the search must find",
        run: planted::run,
        seeds: planted::seeds,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seeds of a target are fed in a debug build.
    const SEEDS_MAX: usize = 60;

    #[test]
    fn every_target_takes_its_seeds_and_their_beginnings() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seed", target.name);
            let step = seeds.len().div_ceil(SEEDS_MAX);
            for seed in seeds.iter().step_by(step) {
                (target.run)(seed);
                (target.run)(&seed[..seed.len() / 2]);
            }
            (target.run)(&[]);
        }
    }

    #[test]
    fn seeds_are_the_same_every_time() {
        for target in TARGETS {
            assert_eq!((target.seeds)(), (target.seeds)(), "{}", target.name);
        }
    }

    #[test]
    fn what_was_found_once_is_taken_now() {
        for (name, input) in FOUND {
            let target = TARGETS.iter().find(|target| target.name == *name);
            (target.expect("a target of this name").run)(input);
        }
    }
}
