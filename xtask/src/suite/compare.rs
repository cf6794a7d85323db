//! What a client's cases came to on Wharf and on Apache Kafka, and what that says of Wharf.
//!
//! Invariants: a case counts as good only when it passed, and said the same, on both; anything
//! else is a failure unless `compat/differences.toml` lists it with a reason; an entry of that
//! list which no longer holds is a failure too, so the list never outlives its reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The two servers that every case runs against.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Server {
    /// The node under test.
    Wharf,
    /// What it is compared with.
    Kafka,
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wharf => "wharf",
            Self::Kafka => "kafka",
        })
    }
}

/// A case that is known to end differently on one server, and why that is right.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Difference {
    client: String,
    case: String,
    /// Where the case fails, or says something else.
    server: Server,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// Reads `compat/differences.toml`.
pub(super) fn differences(text: &str) -> Result<Vec<Difference>> {
    let list: Differences = toml::from_str(text).context("failed to read the differences")?;
    Ok(list.difference)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Case {
    /// What it says of the server, to be the same on both.
    said: Vec<String>,
    /// `None` while it runs.
    passed: Option<bool>,
}

/// The cases of one client against one server, as its lines tell.
#[derive(Debug, Default)]
pub(super) struct Cases {
    cases: BTreeMap<String, Case>,
    /// Whether the closing line with the counts was there.
    pub(super) closed: bool,
}

impl Cases {
    /// Takes a line: `ok   NAME (1.2 s)`, `FAIL NAME: why`, `says NAME: what`. Other lines are
    /// the client's own.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("ok ") {
            let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
            self.case(name).passed = Some(true);
        } else if let Some(rest) = line.strip_prefix("FAIL ") {
            let name = rest.split_once(": ").map_or(rest, |(name, _)| name);
            self.case(name).passed = Some(false);
        } else if let Some((name, what)) = line
            .strip_prefix("says ")
            .and_then(|rest| rest.split_once(": "))
        {
            self.case(name).said.push(what.to_owned());
        }
        self.closed |= super::count(line).is_some();
    }

    fn case(&mut self, name: &str) -> &mut Case {
        self.cases.entry(name.trim().to_owned()).or_default()
    }

    fn passed(&self, name: &str) -> bool {
        self.cases
            .get(name)
            .is_some_and(|case| case.passed == Some(true))
    }

    fn said(&self, name: &str) -> &[String] {
        self.cases.get(name).map_or(&[], |case| &case.said)
    }
}

/// What the comparison came to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Cases that ended well on Wharf, and those that did not.
    pub(super) wharf: (usize, usize),
    /// The same on Kafka.
    pub(super) kafka: (usize, usize),
    /// One sentence for each failure.
    pub(super) failures: Vec<String>,
    /// One sentence for each difference that is listed.
    pub(super) differences: Vec<String>,
}

/// Judges the cases of `client`; without Kafka's, only what Wharf did counts.
pub(super) fn judge(
    client: &str,
    wharf: &Cases,
    kafka: Option<&Cases>,
    listed: &[Difference],
) -> Verdict {
    let mut verdict = Verdict::default();
    let listed: Vec<&Difference> = listed.iter().filter(|one| one.client == client).collect();
    let all = wharf
        .cases
        .keys()
        .chain(kafka.map_or_else(|| wharf.cases.keys(), |kafka| kafka.cases.keys()));
    let names: BTreeSet<&str> = all.map(String::as_str).collect();
    for &name in &names {
        let otherwise = kafka.is_some_and(|kafka| {
            wharf.passed(name) && kafka.passed(name) && wharf.said(name) != kafka.said(name)
        });
        let known = listed
            .iter()
            .any(|one| one.case == name && one.server == Server::Wharf);
        if otherwise && !known {
            for (on_wharf, on_kafka) in differing(name, wharf, kafka) {
                verdict
                    .differences
                    .push(format!("{name}: wharf says {on_wharf}, kafka {on_kafka}"));
            }
        }
        let good = wharf.passed(name) && !otherwise;
        verdict.count(name, Server::Wharf, good, &listed);
        if let Some(kafka) = kafka {
            verdict.count(name, Server::Kafka, kafka.passed(name), &listed);
        }
    }
    for gone in listed.iter().filter(|one| !names.contains(&*one.case)) {
        let case = &gone.case;
        verdict.failures.push(format!(
            "{case}: listed as a difference, but there is no such case"
        ));
        verdict.wharf.1 += 1;
    }
    verdict
}

/// The lines that are not the same on both.
fn differing<'a>(
    name: &str,
    wharf: &'a Cases,
    kafka: Option<&'a Cases>,
) -> Vec<(&'a str, &'a str)> {
    let (here, there) = (
        wharf.said(name),
        kafka.map_or(&[][..], |kafka| kafka.said(name)),
    );
    let line = |lines: &'a [String], at: usize| lines.get(at).map_or("nothing", String::as_str);
    (0..here.len().max(there.len()))
        .map(|at| (line(here, at), line(there, at)))
        .filter(|(here, there)| here != there)
        .collect()
}

impl Verdict {
    fn count(&mut self, name: &str, server: Server, good: bool, listed: &[&Difference]) {
        let known = listed
            .iter()
            .find(|one| one.case == name && one.server == server);
        let failure = match (good, known) {
            (true, None) => None,
            (false, Some(known)) => {
                let reason = &known.reason;
                self.differences
                    .push(format!("{name}: differs on {server}: {reason}"));
                return;
            }
            (true, Some(_)) => Some("is listed as a difference, but there is none"),
            (false, None) => Some("does not pass"),
        };
        let counts = match server {
            Server::Wharf => &mut self.wharf,
            Server::Kafka => &mut self.kafka,
        };
        match failure {
            None => counts.0 += 1,
            Some(failure) => {
                counts.1 += 1;
                self.failures.push(format!("{name}: {failure} on {server}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(lines: &[&str]) -> Cases {
        let mut cases = Cases::default();
        for line in lines {
            cases.line(line);
        }
        cases
    }

    fn listed(server: &str) -> Vec<Difference> {
        let entry = |key: &str, value: &str| format!("{key} = \"{value}\"\n");
        let text = [
            "[[difference]]\n".to_owned(),
            entry("client", "kcat"),
            entry("case", "a b"),
            entry("server", server),
            entry("reason", "because"),
        ];
        differences(&text.concat()).unwrap()
    }

    fn of(wharf: &[&str], kafka: &[&str], listed: &[Difference]) -> Verdict {
        judge("kcat", &cases(wharf), Some(&cases(kafka)), listed)
    }

    #[test]
    fn the_lines_of_the_scripts_are_read() {
        let read = cases(&[
            "says a b: one: two",
            "ok   a b (0.1 s)",
            "FAIL c (d): Error: bad",
            "noise",
        ]);
        assert!(read.passed("a b") && !read.passed("c (d)"));
        assert_eq!(read.said("a b"), ["one: two"]);
        assert_eq!(read.cases.len(), 2);
        assert!(!read.closed && cases(&["1 passed, 1 failed"]).closed);
    }

    #[test]
    fn a_case_must_pass_on_both() {
        let (ok, fail) = (&["ok   a b (0.1 s)"][..], &["FAIL a b: why"][..]);
        assert_eq!(of(ok, ok, &[]).failures, Vec::<String>::new());
        assert_eq!(of(fail, ok, &[]).failures, ["a b: does not pass on wharf"]);
        assert_eq!(of(ok, fail, &[]).failures, ["a b: does not pass on kafka"]);
        assert_eq!(of(fail, fail, &[]).failures.len(), 2);
        assert_eq!(of(ok, &[], &[]).failures, ["a b: does not pass on kafka"]);
        assert_eq!(of(&[], ok, &[]).failures, ["a b: does not pass on wharf"]);
        assert_eq!(of(&["says a b: x"], ok, &[]).wharf, (0, 1));
    }

    #[test]
    fn a_case_must_say_the_same_on_both() {
        let one = &["says a b: 1", "ok   a b (0.1 s)"];
        let two = &["says a b: 2", "ok   a b (0.1 s)"];
        assert_eq!(of(one, one, &[]).wharf, (1, 0));
        let verdict = of(one, two, &[]);
        assert_eq!((verdict.wharf, verdict.kafka), ((0, 1), (1, 0)));
        assert_eq!(verdict.differences, ["a b: wharf says 1, kafka 2"]);
        assert!(of(one, two, &listed("wharf")).failures.is_empty());
    }

    #[test]
    fn a_listed_difference_is_excused_where_it_is_and_nowhere_else() {
        let (ok, fail) = (&["ok   a b (0.1 s)"][..], &["FAIL a b: why"][..]);
        assert!(of(fail, ok, &listed("wharf")).failures.is_empty());
        assert!(of(ok, fail, &listed("kafka")).failures.is_empty());
        assert_eq!(of(fail, ok, &listed("kafka")).failures.len(), 2);
        assert_eq!(of(ok, ok, &listed("wharf")).failures.len(), 1);
        assert_eq!(of(&[], &[], &listed("wharf")).failures.len(), 1);
        let other = judge("rdkafka", &cases(ok), Some(&cases(ok)), &listed("wharf"));
        assert!(other.failures.is_empty());
    }
}
