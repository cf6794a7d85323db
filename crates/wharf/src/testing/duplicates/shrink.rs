//! Shrinking: from a schedule that fails to the shortest one that still does.
//!
//! Every candidate costs less than the best so far, so it ends; and every schedule that is returned
//! was seen failing.

use super::schedule::{How, Point, Schedule, Step};

/// The shortest failing schedule found, and how many were tried for it.
pub(super) struct Shrunk {
    pub(super) schedule: Schedule,
    pub(super) runs: usize,
}

/// Shrinks `schedule`, which fails, trying at most `runs_max` others, of those that `permits` lets
/// happen. `fails` tells whether one does.
pub(super) async fn shrink<E>(
    schedule: Schedule,
    permits: impl Fn(&Schedule) -> bool,
    runs_max: usize,
    mut fails: impl AsyncFnMut(&Schedule) -> Result<bool, E>,
) -> Result<Shrunk, E> {
    let mut best = Shrunk { schedule, runs: 0 };
    let mut tried = std::collections::HashSet::new();
    'again: loop {
        for candidate in candidates(&best.schedule) {
            if cost(&candidate) >= cost(&best.schedule)
                || !permits(&candidate)
                || !tried.insert(candidate.clone())
            {
                continue;
            }
            if best.runs == runs_max {
                return Ok(best);
            }
            best.runs += 1;
            if fails(&candidate).await? {
                best.schedule = candidate;
                continue 'again;
            }
        }
        return Ok(best);
    }
}

/// What is shorter, then simpler, then nearer to the usual order.
fn cost(schedule: &Schedule) -> (usize, usize, usize) {
    let weight = |step: &Step| match step {
        Step::Deliver { how, .. } => match how {
            How::Settled => 0,
            How::Copy => 1,
            How::Crash(Point::After) => 2,
            How::Crash(Point::Before) => 3,
            How::Race => 4,
            How::Crash(Point::Midway(wait)) => 4 + *wait as usize,
        },
        Step::Restart | Step::Window => 1,
        Step::Rewind(count) => 1 + count,
    };
    let order: Vec<usize> = schedule
        .steps
        .iter()
        .filter_map(|step| step.message())
        .collect();
    let inversions = order
        .iter()
        .enumerate()
        .map(|(at, one)| order[at + 1..].iter().filter(|later| *later < one).count());
    let weights = schedule.steps.iter().map(weight).sum();
    (
        schedule.steps.len() + usize::from(schedule.twist.is_some()),
        weights,
        inversions.sum(),
    )
}

/// Schedules that are like this one with less in it, the boldest first.
fn candidates(schedule: &Schedule) -> Vec<Schedule> {
    let length = schedule.steps.len();
    let with = |steps: Vec<Step>| {
        Schedule {
            twist: schedule.twist,
            steps,
        }
        .repair()
    };
    let mut found = Vec::new();
    let mut chunk = length / 2;
    while chunk > 1 {
        for at in (0..length).step_by(chunk).rev() {
            let end = (at + chunk).min(length);
            found.push(with(
                [&schedule.steps[..at], &schedule.steps[end..]].concat(),
            ));
        }
        chunk /= 2;
    }
    for message in schedule.messages().into_iter().rev() {
        let others = schedule
            .steps
            .iter()
            .filter(|step| step.message() != Some(message));
        found.push(with(others.copied().collect()));
    }
    for at in (0..length).rev() {
        found.push(with(
            [&schedule.steps[..at], &schedule.steps[at + 1..]].concat(),
        ));
    }
    for at in 0..length {
        for simpler in simpler(schedule.steps[at]) {
            let mut steps = schedule.steps.clone();
            steps[at] = simpler;
            found.push(with(steps));
        }
    }
    for at in 1..length {
        let mut steps = schedule.steps.clone();
        steps.swap(at - 1, at);
        found.push(with(steps));
    }
    found.retain(|candidate| !candidate.steps.is_empty());
    found
}

fn simpler(step: Step) -> Vec<Step> {
    match step {
        Step::Deliver { message, how } => match how {
            How::Settled => vec![],
            How::Copy | How::Race | How::Crash(Point::After) => vec![Step::deliver(message)],
            How::Crash(Point::Before) => vec![Step::crash(message, Point::After)],
            How::Crash(Point::Midway(wait)) => {
                let fewer = [1, wait / 2, wait.saturating_sub(1)].into_iter();
                let fewer = fewer
                    .filter(|fewer| (1..wait).contains(fewer))
                    .map(Point::Midway);
                let points = [Point::After].into_iter().chain(fewer);
                points.map(|point| Step::crash(message, point)).collect()
            }
        },
        Step::Restart | Step::Window => vec![],
        Step::Rewind(count) => {
            let fewer = [1, count / 2, count - 1]
                .into_iter()
                .filter(|fewer| (1..count).contains(fewer));
            fewer.map(Step::Rewind).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt as _;

    use super::*;

    fn shrunk(line: &str, fails: impl Fn(&Schedule) -> bool) -> (String, usize) {
        let schedule: Schedule = line.parse().expect("it is a schedule");
        assert!(fails(&schedule), "{line} should fail at the beginning");
        let judge = async |candidate: &Schedule| Ok::<_, Infallible>(fails(candidate));
        let shrunk = shrink(schedule, |_| true, 1_000, judge);
        let shrunk = shrunk.now_or_never().expect("nothing waits");
        let Ok(Shrunk { schedule, runs }) = shrunk;
        (schedule.to_string(), runs)
    }

    fn count(schedule: &Schedule, message: usize) -> usize {
        schedule
            .steps
            .iter()
            .filter(|step| step.message() == Some(message))
            .count()
    }

    #[test]
    fn nothing_is_left_but_what_makes_it_fail() {
        let noise = "4 1 2x3 2 3+ restart 3 1+ later 4 5= 2 back2 3 5";
        let twice = |schedule: &Schedule| count(schedule, 1) > 1;
        assert_eq!(shrunk(noise, twice).0, "2 2");
        let killed = |schedule: &Schedule| schedule.to_string().contains('x');
        assert_eq!(shrunk(noise, killed).0, "2x 2");
        let restarted = |schedule: &Schedule| {
            let at = schedule
                .steps
                .iter()
                .position(|step| *step == Step::Restart);
            at.is_some_and(|at| {
                let about = |steps: &[Step]| steps.iter().any(|step| step.message() == Some(3));
                about(&schedule.steps[..at]) && about(&schedule.steps[at..])
            })
        };
        assert_eq!(shrunk(noise, restarted).0, "4 restart 4");
    }

    #[test]
    fn the_middle_of_a_delivery_is_kept_where_it_matters_and_made_the_first_that_does() {
        let third = |schedule: &Schedule| {
            schedule.steps.iter().any(|step| match step {
                Step::Deliver {
                    how: How::Crash(Point::Midway(wait)),
                    ..
                } => *wait >= 3,
                _ => false,
            })
        };
        assert_eq!(shrunk("1 2x8 2 3 3+", third).0, "2x3 2");
    }

    #[test]
    fn it_gives_up_after_the_runs_it_may_have() {
        let schedule: Schedule = "1 1 2 2 3 3 4 4".parse().expect("it is a schedule");
        let judge = async |_: &Schedule| Ok::<_, Infallible>(false);
        let shrunk = shrink(schedule.clone(), |_| true, 3, judge).now_or_never();
        let Some(Ok(shrunk)) = shrunk else {
            panic!("nothing waits")
        };
        assert_eq!((shrunk.schedule, shrunk.runs), (schedule, 3));
    }
}
