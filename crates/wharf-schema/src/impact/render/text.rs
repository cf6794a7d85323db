//! For a terminal. No colours: what matters is said in words and by place.

use super::{affected, deletable, kept, parts, time};
use crate::impact::report::{Compared, Consumer, DirectionName, Report};

/// The width of a page.
const WIDTH: usize = 100;

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.line("");
        self.line(&text.to_uppercase());
    }

    /// A paragraph, broken at words; `first` stands before it, the rest is indented as much.
    fn paragraph(&mut self, first: &str, text: &str) {
        let indent = " ".repeat(first.chars().count());
        let mut line = first.to_owned();
        let mut empty = true;
        for word in text.split(' ') {
            let length = line.chars().count() + 1 + word.chars().count();
            if !empty && length > WIDTH {
                self.line(line.trim_end());
                line.clone_from(&indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(line.trim_end());
    }
}

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut page = Page(String::new());
    let what = report.file.as_deref().unwrap_or("the proposed schema");
    let kind = report.kind;
    page.line(&format!("Impact of {what} on {} ({kind})", report.subject));
    page.line(&format!("from evidence of {}", time(report.taken_at)));
    page.line("");
    let answer = match report.decision.breaks {
        true => "BREAKS: ",
        false => "OK: ",
    };
    page.paragraph(answer, &report.decision.sentence);
    consumers(&mut page, report);
    differences(&mut page, report);
    verdicts(&mut page, report);
    data(&mut page, report);
    way(&mut page, report);
    rest(&mut page, report);
    page.0
}

fn consumers(page: &mut Page, report: &Report) {
    page.heading("who reads it");
    if report.consumers.is_empty() {
        page.line("  nobody is known");
    }
    for (heading, consumers) in parts(report) {
        page.line(&format!("  {heading}"));
        for consumer in consumers {
            one_consumer(page, consumer);
        }
    }
}

fn one_consumer(page: &mut Page, consumer: &Consumer) {
    let owner = consumer.owner.as_ref();
    let owner = owner
        .map(|owner| format!(", owner {owner}"))
        .unwrap_or_default();
    let newest = consumer
        .newest
        .map(|at| format!(", last seen {}", time(at)));
    page.line(&format!(
        "    {}: {} [{}]{owner}{}",
        consumer.name,
        affected(consumer),
        consumer.grade.as_str(),
        newest.unwrap_or_default()
    ));
    for why in &consumer.why {
        page.paragraph("      why       ", why);
    }
    for fact in &consumer.evidence {
        let grade = format!("      {:<9} ", fact.grade.as_str());
        page.paragraph(&grade, &fact.sentence);
    }
    for unread in &consumer.unread {
        let which = match (unread.version, unread.id) {
            (Some(version), Some(id)) => format!("of version {version} (id {id})"),
            (_, Some(id)) => format!("of id {id}, which is no version of this subject"),
            (_, None) => "without a schema id".to_owned(),
        };
        let most = if unread.is_exact { "" } else { "at most " };
        let records = crate::impact::counted(unread.records, "record");
        page.paragraph(
            "      unread    ",
            &format!("{most}{records} {which} in {}", unread.topic),
        );
    }
}

fn title(compared: &Compared) -> String {
    let version = compared.version;
    match compared.direction {
        DirectionName::Backward => {
            format!("the proposed schema reads what version {version} wrote")
        }
        DirectionName::Forward => {
            format!("version {version} reads what the proposed schema writes")
        }
    }
}

fn differences(page: &mut Page, report: &Report) {
    page.heading("what breaks");
    let mut any = false;
    for compared in &report.comparisons {
        let broken = compared
            .differences
            .iter()
            .filter(|change| !change.is_compatible);
        let broken: Vec<_> = broken.collect();
        if broken.is_empty() {
            continue;
        }
        any = true;
        let wanted = match compared.is_wanted {
            true => "",
            false => " (the level does not ask)",
        };
        page.line(&format!("  {}: NO{wanted}", title(compared)));
        for change in broken {
            page.line(&format!("    {} at {}", change.kind, change.path));
            page.paragraph("      ", &change.sentence);
            for line in change
                .witness
                .iter()
                .flat_map(crate::findings::Shown::lines)
            {
                page.paragraph("      ", &line);
            }
        }
    }
    if !any {
        page.line("  nothing");
    }
    let compatible = report.comparisons.iter().flat_map(|compared| {
        let title = title(compared);
        let changes = compared
            .differences
            .iter()
            .filter(|change| change.is_compatible);
        changes.map(move |change| (title.clone(), change))
    });
    let compatible: Vec<_> = compatible.collect();
    if !compatible.is_empty() {
        page.line("  differences that break nothing");
        for (title, change) in compatible {
            let sentence = match change.sentence.as_str() {
                "" => title,
                sentence => format!("{sentence} ({title})"),
            };
            page.paragraph(
                "    ",
                &format!("{} at {}: {sentence}", change.kind, change.path),
            );
        }
    }
}

fn verdicts(page: &mut Page, report: &Report) {
    page.heading("what each level says");
    let rule = &report.rule;
    let group = rule
        .group
        .as_ref()
        .map(|group| format!(", compared by {group}"));
    let policy = format!("{:?}", rule.policy).to_uppercase();
    page.paragraph(
        "  ",
        &format!(
            "{} holds, set by {}; policy {policy}, set by {}{}",
            rule.level,
            rule.level_from,
            rule.policy_from,
            group.unwrap_or_default()
        ),
    );
    for verdict in &report.verdicts {
        let versions: Vec<String> = verdict.versions.iter().map(i32::to_string).collect();
        let with = match versions.is_empty() {
            true => String::new(),
            false => format!("with version {}", versions.join(", ")),
        };
        let says = match verdict.is_compatible {
            true => "compatible".to_owned(),
            false => crate::impact::counted(verdict.incompatibilities, "break"),
        };
        let holds = if verdict.holds { ">" } else { " " };
        let level = verdict.level.as_str();
        page.line(format!("  {holds} {level:<20} {says:<12} {with}").trim_end());
    }
}

fn data(page: &mut Page, report: &Report) {
    page.heading("what is retained");
    for version in &report.retained {
        let deleted = if version.deleted { ", deleted" } else { "" };
        let head = format!("  version {} (id {}{deleted})", version.version, version.id);
        page.line(&head);
        page.paragraph("    retained     ", &kept(version));
        page.paragraph("    hard delete  ", &deletable(version));
    }
    page.line("  do versions matter that the level leaves out?");
    page.paragraph("    ", &report.transitive.sentence);
}

fn way(page: &mut Page, report: &Report) {
    page.heading("in which order");
    page.paragraph("  ", &report.order.sentence);
    if report.steps.is_empty() {
        return;
    }
    page.heading("how to get there");
    for (number, step) in (1..).zip(&report.steps) {
        let places = match step.paths.is_empty() {
            true => String::new(),
            false => format!(" ({})", step.paths.join(", ")),
        };
        page.line(&format!("  {number}. {}{places} [{}]", step.title, step.id));
        page.paragraph("     ", &step.detail);
        if let Some(generated) = &step.schema {
            for checked in &generated.checked {
                page.paragraph("     checked: ", checked);
            }
            for line in generated.text.lines() {
                page.line(&format!("       {line}"));
            }
        }
    }
}

fn rest(page: &mut Page, report: &Report) {
    if !report.references.is_empty() {
        page.heading("who refers to it");
        for user in &report.references {
            let (subject, version, uses) = (&user.subject, user.version, user.uses);
            page.line(&format!(
                "  {subject} version {version} uses version {uses}"
            ));
        }
    }
    if !report.neighbours.is_empty() {
        page.heading("other subjects of the topic");
        page.paragraph("  ", &report.neighbours.join(", "));
    }
    page.heading("what is not known");
    if report.gaps.is_empty() {
        page.line("  nothing was left out");
    }
    for gap in &report.gaps {
        page.paragraph("  - ", gap);
    }
}
