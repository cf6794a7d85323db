//! Schedules: in which order messages are delivered, and what goes wrong meanwhile.
//!
//! A schedule is a line of words, so that it can be printed, pasted and run again. Messages are
//! counted from 1, as the lines of a file are.
//!
//! | word | what happens |
//! |---|---|
//! | `3` | message 3 is delivered; when it was delivered before, once more from the same position |
//! | `3+` | it comes again as a producer's retry: the same ids, another position and time |
//! | `3=` | two instances of the consumer get it at the same time |
//! | `3x` | it is delivered, and the consumer is killed when it is done, before it could settle |
//! | `3x0` | the consumer is killed before it has begun |
//! | `3x2` | the consumer is killed in the middle: where it waits for something the second time |
//! | `restart` | the consumer is killed while nothing is on the way |
//! | `back2` | it is killed, and the last two positions are delivered again: their commit was lost |
//! | `later` | the time for which duplicates are remembered passes |
//!
//! A line may begin with `payloads-apart:` or `ids-apart:`, see [`Twist`].
//!
//! Invariant: every message that a [repaired](Schedule::repair) schedule names is delivered and
//! settled at least once, after all crashes in its way: what at-least-once delivery promises.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use wharf_message::Message;

use super::fault::Fault;

/// When a consumer is killed in the course of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// Before it begins.
    Before,
    /// Where it waits for something the n-th time, from 1.
    Midway(u32),
    /// After its effects, before the message is settled.
    After,
}

/// How a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// To one instance, which settles it.
    Settled,
    /// The same, as a producer's retry: from a position and with a time of its own.
    Copy,
    /// To one instance, which is killed.
    Crash(Point),
    /// To two instances at the same time.
    Race,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A message is delivered.
    Deliver {
        /// Which, from 0.
        message: usize,
        /// How it ends.
        how: How,
    },
    /// The consumer is killed and started again.
    Restart,
    /// The consumer is killed, and so many of the last positions are delivered again.
    Rewind(usize),
    /// The time passes for which the consumer remembers what it has seen.
    Window,
}

impl Step {
    /// Message `message` is delivered and settled.
    pub fn deliver(message: usize) -> Self {
        Self::Deliver {
            message,
            how: How::Settled,
        }
    }

    /// It comes again as a producer's retry.
    pub fn copy(message: usize) -> Self {
        Self::Deliver {
            message,
            how: How::Copy,
        }
    }

    /// It is delivered and the consumer killed.
    pub fn crash(message: usize, point: Point) -> Self {
        Self::Deliver {
            message,
            how: How::Crash(point),
        }
    }

    /// Two instances get it.
    pub fn race(message: usize) -> Self {
        Self::Deliver {
            message,
            how: How::Race,
        }
    }

    /// The message it delivers.
    pub fn message(self) -> Option<usize> {
        match self {
            Self::Deliver { message, .. } => Some(message),
            Self::Restart | Self::Rewind(_) | Self::Window => None,
        }
    }

    /// Whether the consumer is killed.
    pub fn kills(self) -> bool {
        self.crashes() || matches!(self, Self::Restart | Self::Rewind(_))
    }

    fn crashes(self) -> bool {
        matches!(
            self,
            Self::Deliver {
                how: How::Crash(_),
                ..
            }
        )
    }
}

/// A change of the messages that must change nothing: what shows that a consumer takes different
/// messages for one and the same. Twisted or not, no message is a duplicate of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Twist {
    /// Payloads that are equal are made to differ by white space at their end. A consumer that
    /// knows duplicates by their payload merges messages that only look alike.
    PayloadsApart,
    /// Ids that are equal although their sources differ are made to differ. A consumer that knows
    /// duplicates by the id alone merges messages of different sources.
    IdsApart,
}

impl Twist {
    /// Its name in a schedule.
    pub fn name(self) -> &'static str {
        match self {
            Self::PayloadsApart => "payloads-apart",
            Self::IdsApart => "ids-apart",
        }
    }
}

/// What happens, in order.
///
/// ```
/// use wharf::testing::duplicates::{Schedule, Step};
///
/// let schedule: Schedule = "1 2 1+".parse()?;
/// assert_eq!(schedule.steps, [Step::deliver(0), Step::deliver(1), Step::copy(0)]);
/// assert_eq!(schedule.to_string(), "1 2 1+");
/// assert_eq!(schedule.distance(), 1);
/// # Ok::<(), wharf::testing::duplicates::NotAStep>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// A change of the messages beforehand.
    pub twist: Option<Twist>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// These steps.
    pub fn of(steps: Vec<Step>) -> Self {
        Self { twist: None, steps }
    }

    /// Each of these messages once, in this order.
    pub fn golden(messages: &[usize]) -> Self {
        Self::of(
            messages
                .iter()
                .map(|&message| Step::deliver(message))
                .collect(),
        )
    }

    /// The messages it names, in their own order.
    pub fn messages(&self) -> Vec<usize> {
        let mut named: Vec<usize> = self
            .steps
            .iter()
            .filter_map(|step| step.message())
            .collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Makes it hold what at-least-once delivery promises: crashes that nothing follows go, and
    /// with them messages that are never settled; a first delivery is not a copy; a rewind goes
    /// back no further than to the beginning, and what goes back by nothing goes.
    #[must_use]
    pub fn repair(mut self) -> Self {
        let mut settled = BTreeSet::new();
        let mut kept = Vec::with_capacity(self.steps.len());
        for step in self.steps.into_iter().rev() {
            match step.message() {
                Some(message) if step.crashes() && !settled.contains(&message) => {}
                Some(message) => {
                    settled.insert(message);
                    kept.push(step);
                }
                None => kept.push(step),
            }
        }
        let mut first = BTreeSet::new();
        kept.reverse();
        kept.retain_mut(|step| {
            match step {
                Step::Deliver { message, how } => {
                    if first.insert(*message) && *how == How::Copy {
                        *how = How::Settled;
                    }
                }
                Step::Rewind(count) => *count = (*count).min(first.len()),
                Step::Restart | Step::Window => {}
            }
            *step != Step::Rewind(0)
        });
        self.steps = kept;
        self
    }

    /// After how many different other messages a message comes again, at most, counted from its
    /// first delivery.
    pub fn distance(&self) -> usize {
        let (mut positions, mut order) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match *step {
                Step::Deliver { message, how } => {
                    if how == How::Copy || !positions.contains(&message) {
                        positions.push(message);
                    }
                    order.push(message);
                }
                Step::Rewind(count) => {
                    order.extend_from_slice(&positions[positions.len().saturating_sub(count)..]);
                }
                Step::Restart | Step::Window => {}
            }
        }
        let others = |(at, message): (usize, &usize)| {
            let first = order.iter().position(|one| one == message).unwrap_or(at);
            let between: BTreeSet<&usize> = order[first..at].iter().collect();
            between.len().saturating_sub(1)
        };
        order.iter().enumerate().map(others).max().unwrap_or(0)
    }

    /// The faults it has. Another order is none here: it can always be made.
    pub fn needs(&self) -> Vec<Fault> {
        let mut delivered = BTreeSet::new();
        let mut crashed = BTreeSet::new();
        let mut needed = Vec::new();
        for step in &self.steps {
            match *step {
                Step::Restart => needed.push(Fault::Restart),
                Step::Rewind(_) => needed.push(Fault::Rewind),
                Step::Window => needed.push(Fault::Window),
                Step::Deliver { message, how } => {
                    let again = delivered.contains(&message);
                    match how {
                        How::Copy => needed.push(Fault::Copy),
                        How::Race => needed.push(Fault::Race),
                        How::Crash(Point::Midway(_)) => needed.push(Fault::Midway),
                        How::Crash(_) => needed.push(Fault::Crash),
                        How::Settled => {}
                    }
                    if again && how != How::Copy && !crashed.remove(&message) {
                        needed.push(Fault::Repeat);
                    }
                    if matches!(how, How::Crash(_)) {
                        crashed.insert(message);
                    }
                    delivered.insert(message);
                }
            }
        }
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// What happens, one line for each step, for people.
    pub fn explain(&self, messages: &[Message]) -> Vec<String> {
        let mut lines = Vec::new();
        match self.twist {
            Some(Twist::PayloadsApart) => lines
                .push("equal payloads are made to differ, by white space at their end".to_owned()),
            Some(Twist::IdsApart) => {
                lines.push("equal ids of different sources are made to differ".to_owned());
            }
            None => {}
        }
        let mut seen = BTreeSet::new();
        for step in &self.steps {
            lines.push(match step {
                Step::Deliver { message, how } => {
                    let again = !seen.insert(*message);
                    let name = name(messages, *message);
                    let what = match (again, how) {
                        (false, _) => "is delivered",
                        (true, How::Copy) => {
                            "comes again as a producer's retry: same ids, another position"
                        }
                        (true, _) => "is delivered again, from the same position",
                    };
                    format!("{name} {what}{}", ending(*how))
                }
                Step::Restart => "the consumer is killed and started again".to_owned(),
                Step::Rewind(count) => format!(
                    "the consumer is killed, and the last {count} positions are delivered again"
                ),
                Step::Window => "the time passes for which duplicates are remembered".to_owned(),
            });
        }
        lines
    }
}

fn name(messages: &[Message], message: usize) -> String {
    let key = messages
        .get(message)
        .and_then(|message| message.key.as_deref());
    let key = key.map(|key| format!(" (key {:?})", String::from_utf8_lossy(key)));
    format!("message {}{}", message + 1, key.unwrap_or_default())
}

fn ending(how: How) -> String {
    match how {
        How::Settled | How::Copy => String::new(),
        How::Race => ", to two instances at the same time".to_owned(),
        How::Crash(Point::Before) => ", and the consumer is killed before it begins".to_owned(),
        How::Crash(Point::Midway(wait)) => {
            format!(", and the consumer is killed in the middle (wait {wait})")
        }
        How::Crash(Point::After) => {
            ", and the consumer is killed after its effects, before it settles".to_owned()
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver { message, how } => {
                write!(formatter, "{}", message + 1)?;
                match how {
                    How::Settled => Ok(()),
                    How::Copy => formatter.write_str("+"),
                    How::Race => formatter.write_str("="),
                    How::Crash(Point::After) => formatter.write_str("x"),
                    How::Crash(Point::Before) => formatter.write_str("x0"),
                    How::Crash(Point::Midway(wait)) => write!(formatter, "x{wait}"),
                }
            }
            Self::Restart => formatter.write_str("restart"),
            Self::Rewind(count) => write!(formatter, "back{count}"),
            Self::Window => formatter.write_str("later"),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        if let Some(twist) = self.twist {
            write!(formatter, "{}:", twist.name())?;
            gap = " ";
        }
        for step in &self.steps {
            write!(formatter, "{gap}{step}")?;
            gap = " ";
        }
        Ok(())
    }
}

/// A word that no schedule has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{word:?} is no step of a schedule: expected 3, 3+, 3=, 3x, 3x0, 3x2, restart, back2 or later"
)]
pub struct NotAStep {
    word: String,
}

impl FromStr for Schedule {
    type Err = NotAStep;

    fn from_str(line: &str) -> Result<Self, NotAStep> {
        let mut words = line.split_whitespace().peekable();
        let twists = [Twist::PayloadsApart, Twist::IdsApart];
        let twist = words.peek().and_then(|word| word.strip_suffix(':'));
        let twist = twist.and_then(|name| twists.into_iter().find(|twist| twist.name() == name));
        if twist.is_some() {
            words.next();
        }
        let steps = words.map(|word| {
            step(word).ok_or_else(|| NotAStep {
                word: word.to_owned(),
            })
        });
        Ok(Self {
            twist,
            steps: steps.collect::<Result<_, _>>()?,
        })
    }
}

fn step(word: &str) -> Option<Step> {
    match word {
        "restart" => return Some(Step::Restart),
        "later" => return Some(Step::Window),
        _ => {}
    }
    if let Some(count) = word.strip_prefix("back") {
        return count
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .map(Step::Rewind);
    }
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = word.split_at(digits);
    let message = number.parse::<usize>().ok()?.checked_sub(1)?;
    let how = match rest {
        "" => How::Settled,
        "+" => How::Copy,
        "=" => How::Race,
        "x" => How::Crash(Point::After),
        "x0" => How::Crash(Point::Before),
        _ => How::Crash(Point::Midway(rest.strip_prefix('x')?.parse().ok()?)),
    };
    Some(Step::Deliver { message, how })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let point = prop_oneof![
            Just(Point::Before),
            Just(Point::After),
            (1u32..9).prop_map(Point::Midway)
        ];
        let step = prop_oneof![
            (0usize..5).prop_map(Step::deliver),
            (0usize..5).prop_map(Step::copy),
            (0usize..5).prop_map(Step::race),
            ((0usize..5), point).prop_map(|(message, point)| Step::crash(message, point)),
            Just(Step::Restart),
            Just(Step::Window),
            (1usize..9).prop_map(Step::Rewind),
        ];
        proptest::collection::vec(step, 0..20)
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(steps in steps(), twist in 0..3) {
            let twist = [None, Some(Twist::PayloadsApart), Some(Twist::IdsApart)][twist as usize];
            let schedule = Schedule { twist, steps };
            prop_assert_eq!(schedule.to_string().parse(), Ok(schedule));
        }

        #[test]
        fn a_repaired_schedule_settles_each_message_after_its_crashes(steps in steps()) {
            let repaired = Schedule::of(steps).repair();
            for message in repaired.messages() {
                let about = |step: &&Step| step.message() == Some(message);
                let first = repaired.steps.iter().find(about).copied();
                let last = repaired.steps.iter().rev().find(about).copied();
                prop_assert!(last.is_some_and(|step| !step.crashes()));
                prop_assert_ne!(first, Some(Step::copy(message)));
            }
            prop_assert_eq!(repaired.clone().repair(), repaired);
        }
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for line in [
            "0",
            "x",
            "1y",
            "1x-2",
            "back",
            "back0",
            "1+x",
            "apart: 1",
            "99999999999999999999999",
        ] {
            assert!(line.parse::<Schedule>().is_err(), "{line}");
        }
    }

    #[test]
    fn the_distance_counts_the_different_messages_between_two_of_one() {
        let distance = |line: &str| line.parse::<Schedule>().map(|schedule| schedule.distance());
        assert_eq!(distance("1 2 3"), Ok(0));
        assert_eq!(distance("1 1 2 3 2+"), Ok(1));
        assert_eq!(distance("1 2 2 3 1+"), Ok(2));
        assert_eq!(distance("1 2 3 1 4 1"), Ok(3));
        assert_eq!(distance("1 2 3 back3"), Ok(2));
        assert_eq!(distance("1 2 3 1+ 4 back2"), Ok(3));
    }
}
