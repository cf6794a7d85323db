//! What a person sees: the live table and the summary, as text.

use std::fmt::Write as _;

use crate::summary::Summary;
use crate::tally::{ServiceView, Snapshot};

/// The live table; keeps the last figures for the rates.
#[derive(Debug, Default)]
pub struct Live {
    last: Option<Snapshot>,
}

impl Live {
    /// The table for `now`: one line of totals, one line a service. Ends with a newline.
    pub fn table(&mut self, now: &Snapshot) -> String {
        let seconds = self
            .last
            .as_ref()
            .map_or(now.seconds, |last| now.seconds - last.seconds);
        let mut text = format!(
            "{:>7.0}s   checkouts {}   placed {}   completed {}   rejected {}\n\
             service          messages/s       total     lag   p50 ms   p99 ms   repeats   set aside\n",
            now.seconds, now.checkouts, now.placed, now.completed, now.rejected
        );
        for (index, service) in now.services.iter().enumerate() {
            let earlier = self.last.as_ref().and_then(|last| last.services.get(index));
            line(&mut text, service, earlier, seconds);
        }
        self.last = Some(now.clone());
        text
    }
}

fn line(text: &mut String, service: &ServiceView, earlier: Option<&ServiceView>, seconds: f64) {
    let received = service.received - earlier.map_or(0, |earlier| earlier.received);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = if seconds > 0.0 {
        received as f64 / seconds
    } else {
        0.0
    };
    let written = writeln!(
        text,
        "{:<16} {:>8.0} {:>11} {:>7} {:>8} {:>8} {:>9} {:>11}",
        service.name,
        rate,
        service.received,
        service.lag,
        service.latency_p50_millis,
        service.latency_p99_millis,
        service.suppressed,
        service.set_aside
    );
    written.expect("writing to a String cannot fail");
}

/// The summary at the end. Ends with a newline.
pub fn summary(summary: &Summary) -> String {
    let mut text = format!(
        "The shop was open for {:.1} s.\n\n\
         orders placed        {:>9}\n\
         \x20 completed          {:>9}\n\
         \x20 rejected           {:>9}   (out of stock {}, card declined {})\n\
         repeats suppressed   {:>9}\n\
         attempts made again  {:>9}\n\
         malformed, set aside {:>9}\n\
         messages handled     {:>9}\n",
        summary.seconds,
        summary.placed,
        summary.completed,
        summary.rejected,
        summary.out_of_stock,
        summary.declined,
        summary.suppressed,
        summary.retried,
        summary.set_aside,
        summary.received,
    );
    if summary.leftover > 0 {
        text.push_str(&format!(
            "of an earlier run    {:>9}   (left alone)\n",
            summary.leftover
        ));
    }
    text.push('\n');
    for check in &summary.checks {
        let (mark, relation) = if check.holds() {
            ("ok  ", "=")
        } else {
            ("FAIL", "≠")
        };
        text.push_str(&format!(
            "{mark} {}: {} {relation} {}\n",
            check.claim, check.left, check.right
        ));
    }
    let verdict = if summary.adds_up() {
        "The numbers add up."
    } else {
        "The numbers do NOT add up."
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}
