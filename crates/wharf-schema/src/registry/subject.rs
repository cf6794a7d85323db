//! Names of subjects and contexts, as Confluent qualifies them: `:.context:name`.
//!
//! A name is taken apart once, where it comes in; everything behind compares the qualified form.
//! Two spellings of one subject (`:.:name` and `name`) must never be two subjects.

use std::fmt;
use std::sync::Arc;

use super::types::Refusal;

/// The default context, as the API lists it.
pub const DEFAULT_CONTEXT: &str = ".";
/// The context whose settings stand above those of all others.
pub const GLOBAL_CONTEXT: &str = ".__GLOBAL";
/// How long a qualified name may be, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;

/// A subject with its context. `:.ctx:` alone names the context itself (for settings), and the empty
/// name the default context. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    qualified: Arc<str>,
    /// Where the name begins; 0 in the default context.
    name_at: usize,
}

impl Subject {
    /// Reads a qualified name. Every text is one; [`Self::check`] says whether schemas may be under it.
    pub fn parse(text: &str) -> Self {
        if let Some(rest) = text.strip_prefix(":*:") {
            return Self::join("*", rest);
        }
        let Some(inner) = text.strip_prefix(":.") else {
            return Self::join(DEFAULT_CONTEXT, text);
        };
        match inner.find(':') {
            Some(end) => Self::join(&text[1..end + 2], &inner[end + 1..]),
            None => Self::join(&text[1..], ""),
        }
    }

    /// A name in a context; the context in any form that [`normalize_context`] understands.
    pub fn new(context: &str, name: &str) -> Self {
        Self::join(&normalize_context(context), name)
    }

    /// The context itself, for its settings.
    pub fn context_only(context: &str) -> Self {
        Self::new(context, "")
    }

    /// What stands above all: `:.__GLOBAL:`.
    pub fn global() -> Self {
        Self::join(GLOBAL_CONTEXT, "")
    }

    fn join(context: &str, name: &str) -> Self {
        if context == DEFAULT_CONTEXT {
            return Self {
                qualified: name.into(),
                name_at: 0,
            };
        }
        Self {
            qualified: format!(":{context}:{name}").into(),
            name_at: context.len() + 2,
        }
    }

    /// Puts it into `context` unless it names one itself: what the routes under `/contexts/{ctx}` and
    /// references in a schema's own context need.
    #[must_use]
    pub fn within(&self, context: &str) -> Self {
        if self.is_qualified() {
            self.clone()
        } else {
            Self::new(context, self.name())
        }
    }

    /// The context: `.` or `.name`; `*` for every one.
    pub fn context(&self) -> &str {
        if self.name_at == 0 {
            DEFAULT_CONTEXT
        } else {
            &self.qualified[1..self.name_at - 1]
        }
    }

    /// `""` for the default context, `:.name:` for another: what names begin with.
    pub fn context_prefix(&self) -> &str {
        &self.qualified[..self.name_at]
    }

    /// The name without its context; empty where the context itself is meant.
    pub fn name(&self) -> &str {
        &self.qualified[self.name_at..]
    }

    /// The qualified name, the one form that is stored.
    pub fn as_str(&self) -> &str {
        &self.qualified
    }

    /// The same, shared.
    pub(super) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.qualified)
    }

    /// Whether it names a context other than the default one.
    pub fn is_qualified(&self) -> bool {
        self.name_at != 0
    }

    /// Whether it names a context and no subject in it.
    pub fn is_context(&self) -> bool {
        self.name().is_empty()
    }

    /// Refused with 42208 where schemas may not be registered under it: a reserved name, no name, a
    /// context that has no subjects, control characters, or more than [`NAME_BYTES_MAX`] bytes.
    pub fn check(&self) -> Result<(), Refusal> {
        let is_reserved = matches!(self.name(), "" | "__GLOBAL" | "__EMPTY");
        let is_nowhere = matches!(self.context(), "*" | GLOBAL_CONTEXT);
        self.refuse_if(is_reserved || is_nowhere)
    }

    /// Refused with 42208 where no settings may be kept for it; a context alone may have some, the
    /// global one too.
    pub fn check_scope(&self) -> Result<(), Refusal> {
        let is_reserved = matches!(self.name(), "__GLOBAL" | "__EMPTY");
        let is_nowhere =
            self.context() == "*" || (self.context() == GLOBAL_CONTEXT && !self.is_context());
        self.refuse_if(is_reserved || is_nowhere)
    }

    fn refuse_if(&self, is_bad: bool) -> Result<(), Refusal> {
        let is_long = self.qualified.len() > NAME_BYTES_MAX;
        if !is_bad && !is_long && !self.qualified.chars().any(char::is_control) {
            return Ok(());
        }
        let shown: String = self.qualified.chars().take(200).collect();
        Err(Refusal::new(
            42208,
            format!("The specified subject '{shown}' is not a valid subject."),
        ))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.qualified, formatter)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.qualified)
    }
}

/// The one form of a context's name: `.name`, also when it comes as `name`, `:.name:` or `:.name`;
/// `.` for the default one.
pub fn normalize_context(text: &str) -> String {
    let text = text.strip_prefix(':').unwrap_or(text);
    let text = text.strip_suffix(':').unwrap_or(text);
    if text.starts_with('.') || text == "*" {
        text.to_owned()
    } else {
        format!(".{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualified_name_has_a_context_and_a_name() {
        let subject = Subject::parse(":.shop:orders-value");
        assert_eq!(subject.context(), ".shop");
        assert_eq!(subject.name(), "orders-value");
        assert_eq!(subject.context_prefix(), ":.shop:");
        assert_eq!(subject.as_str(), ":.shop:orders-value");
        assert!(subject.is_qualified());
    }

    #[test]
    fn the_default_context_has_one_spelling() {
        assert_eq!(Subject::parse(":.:orders"), Subject::parse("orders"));
        assert_eq!(Subject::parse(":.:orders").as_str(), "orders");
        assert_eq!(Subject::new(".", "a:b"), Subject::parse("a:b"));
        assert_eq!(Subject::context_only(".").as_str(), "");
    }

    #[test]
    fn a_context_alone_is_one_with_and_without_its_end() {
        assert_eq!(Subject::parse(":.shop"), Subject::parse(":.shop:"));
        assert!(Subject::parse(":.shop").is_context());
        assert_eq!(Subject::context_only("shop"), Subject::parse(":.shop:"));
        assert_eq!(Subject::global().as_str(), ":.__GLOBAL:");
    }

    #[test]
    fn a_colon_that_begins_no_context_belongs_to_the_name() {
        let subject = Subject::parse(":orders:");
        assert_eq!(subject.context(), DEFAULT_CONTEXT);
        assert_eq!(subject.name(), ":orders:");
    }

    #[test]
    fn a_route_below_a_context_qualifies_what_is_not_qualified() {
        assert_eq!(
            Subject::parse("orders").within("shop"),
            Subject::parse(":.shop:orders")
        );
        assert_eq!(
            Subject::parse(":.other:orders").within(".shop"),
            Subject::parse(":.other:orders")
        );
    }

    #[test]
    fn reserved_names_control_characters_and_long_names_are_refused() {
        for bad in [
            "",
            "__GLOBAL",
            "__EMPTY",
            ":.ctx:",
            ":*:a",
            ":.__GLOBAL:a",
            "a\nb",
        ] {
            assert!(Subject::parse(bad).check().is_err(), "{bad:?}");
        }
        assert!(Subject::parse(&"a".repeat(NAME_BYTES_MAX)).check().is_ok());
        assert!(
            Subject::parse(&"a".repeat(NAME_BYTES_MAX + 1))
                .check()
                .is_err()
        );
        assert!(Subject::parse(":.ctx:").check_scope().is_ok());
        assert!(Subject::parse("").check_scope().is_ok());
    }
}
