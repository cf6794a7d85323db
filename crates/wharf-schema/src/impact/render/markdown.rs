//! For a pull request: the answer and the consumers first, the rest folded away.

use super::{affected, deletable, kept, parts, time};
use crate::impact::report::{Compared, DirectionName, Report};

/// The whole report.
pub fn markdown(report: &Report) -> String {
    let what = report.file.as_deref().unwrap_or("the proposed schema");
    let answer = match report.decision.breaks {
        true => "Breaks",
        false => "OK",
    };
    let mut page = format!(
        "## Impact of {} on {}\n\n**{answer}:** {}\n",
        code(what),
        code(&report.subject),
        plain(&report.decision.sentence)
    );
    page.push_str(&consumers(report));
    page.push_str(&differences(report));
    page.push_str(&order(report));
    page.push_str(&retained(report));
    page.push_str(&verdicts(report));
    if !report.references.is_empty() {
        page.push_str("\n### Who refers to it\n\n");
        for user in &report.references {
            let (subject, version, uses) = (code(&user.subject), user.version, user.uses);
            page.push_str(&format!(
                "- {subject} version {version} uses version {uses}\n"
            ));
        }
    }
    if !report.gaps.is_empty() {
        page.push_str("\n### What is not known\n\n");
        for gap in &report.gaps {
            page.push_str(&format!("- {}\n", plain(gap)));
        }
    }
    page.push_str(&format!(
        "\n<sub>From evidence of {}.</sub>\n",
        time(report.taken_at)
    ));
    page
}

fn consumers(report: &Report) -> String {
    let mut text = "\n### Who reads it\n".to_owned();
    if report.consumers.is_empty() {
        text.push_str("\nNobody is known.\n");
    }
    for (heading, consumers) in parts(report) {
        text.push_str(&format!(
            "\n#### {heading}\n\n| consumer | | grade | why | last seen |\n|---|---|---|---|---|\n"
        ));
        for consumer in consumers {
            let owner = consumer
                .owner
                .as_ref()
                .map(|owner| format!(" ({})", plain(owner)));
            let facts = consumer.evidence.iter().map(|fact| fact.sentence.as_str());
            let why: Vec<String> = consumer
                .why
                .iter()
                .map(String::as_str)
                .chain(facts)
                .map(plain)
                .collect();
            text.push_str(&format!(
                "| {}{} | **{}** | {} | {} | {} |\n",
                code(&consumer.name),
                owner.unwrap_or_default(),
                affected(consumer),
                consumer.grade.as_str(),
                why.join("<br>"),
                consumer.newest.map(time).unwrap_or_default()
            ));
        }
    }
    text
}

fn title(compared: &Compared) -> String {
    let version = compared.version;
    match compared.direction {
        DirectionName::Backward => {
            format!("The proposed schema reads what version {version} wrote")
        }
        DirectionName::Forward => {
            format!("Version {version} reads what the proposed schema writes")
        }
    }
}

fn differences(report: &Report) -> String {
    let mut text = "\n### What breaks\n".to_owned();
    let mut any = false;
    for compared in &report.comparisons {
        let broken = compared
            .differences
            .iter()
            .filter(|change| !change.is_compatible);
        let mut broken = broken.peekable();
        if broken.peek().is_none() {
            continue;
        }
        any = true;
        let wanted = match compared.is_wanted {
            true => "",
            false => " (the level does not ask)",
        };
        text.push_str(&format!("\n{}: **no**{wanted}\n\n", title(compared)));
        for change in broken {
            let (kind, path) = (code(&change.kind), code(&change.path));
            text.push_str(&format!(
                "- {kind} at {path}: {}\n",
                plain(&change.sentence)
            ));
            if let Some(witness) = &change.witness {
                let lines = witness.lines();
                let lines = lines.iter().map(|line| format!("      {line}\n"));
                text.push_str(&format!("\n{}\n", lines.collect::<String>()));
            }
        }
    }
    if !any {
        text.push_str("\nNothing.\n");
    }
    text
}

fn order(report: &Report) -> String {
    let mut text = format!(
        "\n### In which order\n\n{}\n",
        plain(&capital(&report.order.sentence))
    );
    for (number, step) in (1..).zip(&report.steps) {
        let places: Vec<String> = step.paths.iter().map(|path| code(path)).collect();
        let places = match places.is_empty() {
            true => String::new(),
            false => format!(" ({})", places.join(", ")),
        };
        text.push_str(&format!(
            "\n{number}. **{}**{places}. {}\n",
            plain(&capital(&step.title)),
            plain(&step.detail)
        ));
        if let Some(generated) = &step.schema {
            let checked = plain(&generated.checked.join("; "));
            text.push_str(&format!("\n   Checked: {checked}.\n\n"));
            for line in generated.text.lines() {
                text.push_str(&format!("       {line}\n"));
            }
        }
    }
    text
}

fn retained(report: &Report) -> String {
    let mut text = "\n### What is retained\n\n".to_owned();
    if !report.retained.is_empty() {
        text.push_str("| version | id | retained | hard delete |\n|---|---|---|---|\n");
        for version in &report.retained {
            text.push_str(&format!(
                "| {} | {} | {} | {} |\n",
                version.version,
                version.id,
                plain(&kept(version)),
                plain(&deletable(version))
            ));
        }
        text.push('\n');
    }
    let sentence = plain(&report.transitive.sentence);
    text.push_str(&format!(
        "Do versions matter that the level leaves out? {}.\n",
        capital(&sentence)
    ));
    text
}

fn verdicts(report: &Report) -> String {
    let rule = &report.rule;
    let mut text = format!(
        "\n<details><summary>What each level says: {} holds, set by {}</summary>\n\n| level | verdict | compared with |\n|---|---|---|\n",
        rule.level,
        plain(&rule.level_from)
    );
    for verdict in &report.verdicts {
        let versions: Vec<String> = verdict.versions.iter().map(i32::to_string).collect();
        let says = match verdict.is_compatible {
            true => "compatible".to_owned(),
            false => crate::impact::counted(verdict.incompatibilities, "break"),
        };
        let level = match verdict.holds {
            true => format!("**{}**", verdict.level),
            false => verdict.level.to_string(),
        };
        text.push_str(&format!("| {level} | {says} | {} |\n", versions.join(", ")));
    }
    text.push_str("\n</details>\n");
    text
}

/// Text of others as Markdown shows it, in a cell of a table too.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => plain.push(' '),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => {
                plain.push('\\');
                plain.push(character);
            }
            other => plain.push(other),
        }
    }
    plain
}

fn code(text: &str) -> String {
    format!(
        "`{}`",
        text.replace(['`', '\n', '\r'], "'").replace('|', "\\|")
    )
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
