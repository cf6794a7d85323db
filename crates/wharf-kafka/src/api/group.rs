//! What the group keys share: the numbers of errors as a coordinator says them.

use wharf_broker::{Error, ErrorKind};

use crate::error::NONE;

/// Kafka's number for a refusal by the group coordinator. A coordinator that cannot write is one
/// that is not available: clients wait and try again instead of giving up.
pub(super) const fn error_code(error: &Error) -> i16 {
    crate::error::error_code(match error.kind {
        ErrorKind::KafkaStorageError => ErrorKind::CoordinatorNotAvailable,
        kind => kind,
    })
}

/// Kafka's number for what became of something.
pub(super) fn code_of<T>(result: &Result<T, Error>) -> i16 {
    result.as_ref().err().map_or(NONE, error_code)
}
