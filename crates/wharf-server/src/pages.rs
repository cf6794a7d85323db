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
    5101 5102 5103 5104 5105
    5200 5201 5202 5203 5204
    5210 5211 5212 5213 5214 5215 5216
    5301 5302 5303 5304 5305 5306 5307 5308 5309 5310 5311 5312
    6001
    6010 6011 6012 6013 6014 6015
    7001 7002 7003 7004 7005 7006 7007 7008 7009 7010 7011 7012 7013
    7090 7091
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Setting};

    /// The codes from here on are the library's.
    const LIBRARY: u16 = 5000;

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
            if code.number() >= LIBRARY {
                // The library is set up in code; its settings are checked by its documentation tests.
                continue;
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
