//! The reference page of all settings, generated from the structs.

use std::fmt::Write as _;

use super::settings::{Config, Relay};
use super::show::{sections, toml_value};

/// The Markdown of `docs/reference/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Generated from the code by `wharf config reference`; do not edit.\n\
         How the layers and the environment variables work is told in \
         [how to configure](../how-to/configure.md).\n",
    );
    let mut config = Config::default();
    config.relay.insert("<name>".to_owned(), Relay::default());
    let defaults = sections(&config);
    for ((section, about), (_, values)) in Config::SECTIONS.iter().zip(defaults) {
        writeln!(text, "\n## [{section}]\n\n{}", sentences(about))
            .expect("a String takes everything");
        let settings = Config::settings().filter(|setting| setting.section == *section);
        for (setting, (key, value)) in settings.zip(values) {
            let value = toml_value(&value).map_or("unset".to_owned(), |value| format!("`{value}`"));
            let variable = format!("wharf_{section}__{key}")
                .replace('-', "_")
                .replace('.', "__")
                .to_ascii_uppercase();
            writeln!(
                text,
                "\n### {section}.{key}\n\n{}\n\nDefault: {value}. Variable: `{variable}`.",
                sentences(setting.doc)
            )
            .expect("a String takes everything");
        }
    }
    text
}

/// The lines of a doc comment, without the space each starts with.
fn sentences(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join("\n")
}
