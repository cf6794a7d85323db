//! The resources that the machine itself knows; all others are the server's business.

/// The name of the signal that a task waits for.
pub(super) fn signal(resource: &str) -> Option<&str> {
    resource.strip_prefix("wharf:signal:")
}

/// Whether the task is a sub-saga.
pub(super) fn is_child(resource: &str) -> bool {
    resource.starts_with("wharf:saga:")
}
