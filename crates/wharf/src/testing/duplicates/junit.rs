//! The report as JUnit XML, which build servers read.
//!
//! Text in it is escaped, and what XML 1.0 cannot hold at all is replaced: the document is well
//! formed whatever a consumer wrote.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::report::{Outcome, Report, Verdict};

impl Report {
    /// As a JUnit test suite: one test for each kind of fault. `took` is how long it all took.
    pub fn to_junit(&self, took: Duration) -> String {
        let name = escape(&format!("duplicates.{}", self.name));
        let (tests, failures) = (self.cases.len(), self.failures().count());
        let skipped = self.cases.iter().filter(|case| case.is_skipped()).count();
        let counts = format!(
            "tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\"",
            took.as_secs_f64()
        );
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let mut line = |text: fmt::Arguments<'_>| {
            writeln!(out, "{text}").expect("writing to a string cannot fail");
        };
        line(format_args!("<testsuites {counts}>"));
        line(format_args!("  <testsuite name=\"{name}\" {counts}>"));
        line(format_args!("    <properties>"));
        let properties = [
            ("verdict", self.verdict.to_string()),
            ("seed", self.seed.to_string()),
        ];
        for (property, value) in properties {
            let value = escape(&value);
            line(format_args!(
                "      <property name=\"{property}\" value=\"{value}\"/>"
            ));
        }
        line(format_args!("    </properties>"));
        for case in &self.cases {
            let case_name = escape(&case.class);
            line(format_args!(
                "    <testcase classname=\"{name}\" name=\"{case_name}\">"
            ));
            match &case.outcome {
                Outcome::Failed(failure) => {
                    let message = escape(&format!("{}: {}", self.verdict, failure.minimal));
                    let text = escaped(&failure.to_string(), true);
                    line(format_args!(
                        "      <failure message=\"{message}\" type=\"effects\">{text}</failure>"
                    ));
                }
                Outcome::Passed if case.is_skipped() => {
                    let why = match self.verdict {
                        Verdict::NotIdempotent => "a fault before this one failed",
                        _ => "only duplicates beyond the window",
                    };
                    line(format_args!("      <skipped message=\"{why}\"/>"));
                }
                Outcome::Passed => {}
            }
            line(format_args!("    </testcase>"));
        }
        line(format_args!("  </testsuite>"));
        line(format_args!("</testsuites>"));
        out
    }
}

impl super::report::Case {
    fn is_skipped(&self) -> bool {
        self.schedules == 0 && matches!(self.outcome, Outcome::Passed)
    }
}

/// For an attribute, where white space has to be written otherwise.
fn escape(text: &str) -> String {
    escaped(text, false)
}

fn escaped(text: &str, content: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' if content => out.push(character),
            '\n' | '\t' => out.push_str(&format!("&#{};", u32::from(character))),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::duplicates::{Case, Diff, Difference, Failure, Schedule};

    fn report(thing: &str) -> Report {
        let failure = Failure {
            found: Schedule::golden(&[0]),
            minimal: Schedule::golden(&[0]),
            explained: vec!["message 1 is delivered".to_owned()],
            shrink_runs: 0,
            diff: Diff(vec![Difference {
                place: "table t".to_owned(),
                thing: thing.to_owned(),
                expected: 1,
                found: 0,
            }]),
        };
        let case = |class: &str, schedules, outcome| Case {
            class: class.to_owned(),
            schedules,
            outcome,
        };
        Report {
            name: "a<b>&\"c\"".to_owned(),
            seed: 1,
            messages: 1,
            verdict: Verdict::NotIdempotent,
            cases: vec![
                case("first", 2, Outcome::Passed),
                case("second", 1, Outcome::Failed(Box::new(failure))),
                case("third", 0, Outcome::Passed),
            ],
            untested: Vec::new(),
            runs: 3,
            farthest: 0,
        }
    }

    #[test]
    fn every_case_is_a_test_that_passed_failed_or_was_skipped() {
        let xml = report("{}").to_junit(Duration::from_millis(1500));
        assert!(
            xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"1.500\""),
            "{xml}"
        );
        assert!(
            xml.contains("name=\"duplicates.a&lt;b&gt;&amp;&quot;c&quot;\""),
            "{xml}"
        );
        let count = |what: &str| xml.matches(what).count();
        assert_eq!((count("<testcase "), count("</testcase>")), (3, 3), "{xml}");
        assert_eq!((count("<failure "), count("<skipped ")), (1, 1), "{xml}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_consumer_wrote_the_document_is_well_formed(thing in proptest::prelude::any::<String>()) {
            let xml = report(&thing).to_junit(Duration::ZERO);
            let forbidden = |c: char| c < ' ' && !"\n\t\r".contains(c) || c == '\u{fffe}' || c == '\u{ffff}';
            proptest::prop_assert!(!xml.contains(forbidden));
            let begin = xml.find("type=\"effects\">").expect("there is a failure") + 15;
            let end = xml.find("</failure>").expect("it ends");
            let text = &xml[begin..end];
            proptest::prop_assert!(!text.contains(['<', '>', '"']));
            let known = ["amp;", "lt;", "gt;", "quot;"];
            let entities = text.split('&').skip(1);
            for entity in entities {
                proptest::prop_assert!(known.iter().any(|name| entity.starts_with(name)), "{}", text);
            }
        }
    }
}
