//! What can go wrong with a claim check, and what becomes of the message then.

use wharf_message::{Code, dead_letter};

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no object of this key.
    #[error("there is no object {0}")]
    NotFound(String),
    /// It cannot be reached or failed; asking again may help.
    #[error("the object storage failed: {0}")]
    Unavailable(String),
    /// It does not let this client do it.
    #[error("the object storage denied it: {0}")]
    Denied(String),
    /// It cannot do this, whenever it is asked.
    #[error("the object storage refused: {0}")]
    Refused(String),
    /// The payload that was to be stored could not be read to its end.
    #[error("the payload to store could not be read: {0}")]
    Payload(String),
}

/// Why a payload could not be stored, or not be got back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The object is not there.
    #[error(
        "{code}: the payload {key} is not in the store {store}; bring it back from a backup and replay the message",
        code = self.code()
    )]
    Lost {
        /// The store's name.
        store: String,
        /// The object's key.
        key: String,
    },
    /// The object is not what it was when it was stored.
    #[error(
        "{code}: the payload {key} in the store {store} is damaged ({what}); bring it back from a backup and replay the message",
        code = self.code()
    )]
    Damaged {
        /// The store's name.
        store: String,
        /// The object's key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The reference cannot be read, or points where it must not.
    #[error("{code}: the claim check is refused: {0}", code = self.code())]
    Invalid(String),
    /// The reference names a store that is not configured.
    #[error(
        "{code}: the claim check refers to {0}, which is not configured here; add it under this name",
        code = self.code()
    )]
    UnknownStore(String),
    /// The payload is larger than allowed.
    #[error(
        "{code}: the payload of {bytes} bytes is larger than claim checks may carry here ({bytes_max} bytes)",
        code = self.code()
    )]
    TooLarge {
        /// Its size, as far as it is known.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The store failed.
    #[error("{code}: the store {store} of claim checks: {error}", code = self.code())]
    Store {
        /// The store's name.
        store: String,
        /// What it said.
        error: StoreError,
    },
}

impl ClaimError {
    /// The code of its page under `docs/errors`.
    pub fn code(&self) -> Code {
        match self {
            Self::Lost { .. } => Code::CLAIM_LOST,
            Self::Damaged { .. } => Code::CLAIM_DAMAGED,
            Self::Invalid(_) => Code::CLAIM_INVALID,
            Self::UnknownStore(_) => Code::CLAIM_STORE_UNKNOWN,
            Self::TooLarge { .. } => Code::CLAIM_TOO_LARGE,
            Self::Store { .. } => Code::CLAIM_STORE_UNAVAILABLE,
        }
    }

    /// Why a message that met it is set aside; `None` if it is to be tried again.
    ///
    /// ```
    /// use wharf::claim::{ClaimError, StoreError};
    /// use wharf_message::dead_letter::Reason;
    ///
    /// let lost = ClaimError::Lost { store: "payloads".to_owned(), key: "sha256/ab/cd".to_owned() };
    /// assert_eq!(lost.reason(), Some(Reason::ClaimLost));
    /// let away = ClaimError::Store {
    ///     store: "payloads".to_owned(),
    ///     error: StoreError::Unavailable("connection refused".to_owned()),
    /// };
    /// assert_eq!(away.reason(), None);
    /// ```
    pub fn reason(&self) -> Option<dead_letter::Reason> {
        match self {
            Self::Lost { .. } | Self::Damaged { .. } | Self::UnknownStore(_) => {
                Some(dead_letter::Reason::ClaimLost)
            }
            Self::Invalid(_) => Some(dead_letter::Reason::Undecodable),
            Self::TooLarge { .. } => Some(dead_letter::Reason::Rejected),
            // Also what was denied: credentials are renewed without the message's doing.
            Self::Store { .. } => None,
        }
    }

    /// What `error` of `store` is to whoever reads the object `key`.
    pub(super) fn reading(store: &str, key: &str, error: StoreError) -> Self {
        let store = store.to_owned();
        match error {
            StoreError::NotFound(_) => Self::Lost {
                store,
                key: key.to_owned(),
            },
            error => Self::Store { store, error },
        }
    }
}

/// A setting of claim checks that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("claim checks cannot have {setting} = {value:?}: {rule}")]
pub struct InvalidClaims {
    pub(super) setting: &'static str,
    pub(super) value: String,
    pub(super) rule: &'static str,
}

/// Refuses `setting` unless it is `valid`.
pub(super) fn ensure(
    setting: &'static str,
    value: &(impl ToString + ?Sized),
    valid: bool,
    rule: &'static str,
) -> Result<(), InvalidClaims> {
    if valid {
        return Ok(());
    }
    Err(InvalidClaims {
        setting,
        value: value.to_string(),
        rule,
    })
}
