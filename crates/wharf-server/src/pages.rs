//! The pages of `docs/errors/`, compiled in so that `wharf explain` needs no network and no files.

use wharf_message::Code;

macro_rules! pages {
    ($($number:literal)*) => {
        /// The page of a code, as Markdown.
        pub fn page(code: Code) -> Option<&'static str> {
            match code.number() {
                $($number => Some(include_str!(concat!(
                    "../../../docs/errors/WHARF-", stringify!($number), ".md"
                ))),)*
                _ => None,
            }
        }
    };
}

pages! {
    1001 1002 1003 1004 1005
    2001 2002 2003 2004 2005 2006
    3001 3002 3003 3004 3005
    4001 4002
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Setting};

    #[test]
    fn every_code_has_a_page_that_names_it_and_says_what_why_and_what_to_do() {
        for code in Code::ALL {
            let page = page(*code).unwrap_or_else(|| panic!("{code} has no page"));
            assert!(
                page.starts_with(&format!("# {code}: {}\n", code.title())),
                "{code}"
            );
            for heading in ["What happened", "Why", "What to do", "Related settings"] {
                assert!(
                    page.contains(&format!("\n## {heading}\n")),
                    "{code}: {heading}"
                );
            }
            let (_, related) = page.split_once("\n## Related settings\n").unwrap();
            for key in related
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|key| !key.contains('/'))
            {
                let known =
                    |setting: Setting| format!("{}.{}", setting.section, setting.key) == key;
                assert!(Config::settings().any(known), "{code}: {key} is no setting");
            }
        }
    }
}
