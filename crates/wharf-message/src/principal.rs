//! Who is asking. Passed through every call so that access rules need no new arguments later.

use std::sync::Arc;

/// The authenticated identity behind a request, in Kafka's `Type:name` form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The identity of connections that did not authenticate (`User:ANONYMOUS`, as in Kafka).
    pub fn anonymous() -> Self {
        Self("User:ANONYMOUS".into())
    }

    /// The identity of the server's own roles.
    pub fn internal(role: &str) -> Self {
        Self(format!("Wharf:{role}").into())
    }

    /// Whether this is one of the server's own roles. Clients cannot authenticate as one.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with("Wharf:")
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
