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
                    let text = escape(&failure.to_string());
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

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push_str(&format!("&#{};", u32::from(character))),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}
