//! What is done about a failed attempt: the error says it, not the place where it was caught.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use wharf_message::dead_letter::Reason;

use crate::retry::Backoff;

/// What is to be done about a failed attempt.
///
/// ```
/// use std::time::Duration;
/// use wharf::{Backoff, Disposition, Failure};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the provider wants us to wait {0:?}")]
/// struct Throttled(Duration);
///
/// impl Failure for Throttled {
///     fn disposition(&self) -> Disposition {
///         Disposition::Postpone(self.0)
///     }
/// }
///
/// #[derive(Debug, thiserror::Error, Failure)]
/// #[error("not shipped yet")]
/// #[failure(retry = "1m x2, max 1h, 20 times")]
/// struct NotShipped;
///
/// let minute = Duration::from_secs(60);
/// let delays = Backoff { first: minute, factor: 2.0, max: 60 * minute, times: 20 };
/// assert_eq!(Throttled(minute).disposition(), Disposition::Postpone(minute));
/// assert_eq!(NotShipped.disposition(), Disposition::RetryWith(delays));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Disposition {
    /// Try again, as the route's [`Retry`](crate::Retry) says, then set aside.
    #[default]
    Retry,
    /// Try again after these delays instead of the route's.
    RetryWith(Backoff),
    /// It can never succeed: set aside at once.
    DeadLetter,
    /// A refusal that belongs to the business, by its name: nothing was done, and that is certain. A
    /// saga undoes what was done before; of a message that is no task of a saga, it is as
    /// [`Disposition::DeadLetter`].
    Declared(Cow<'static, str>),
    /// Nothing is wrong: done, without effects.
    Skip,
    /// Another worker was quicker (a version check, a serialization failure). Try again at once
    /// with fresh state; it counts as no attempt.
    Conflict,
    /// Not now (a circuit breaker is open, a limit is reached): again after the delay; it counts as
    /// no attempt.
    Postpone(std::time::Duration),
}

/// An error of a handler, which says what is to be done about it. Derive it for your own enum:
///
/// ```
/// use wharf::{Disposition, Failure};
///
/// #[derive(Debug, thiserror::Error, Failure)]
/// enum ReserveError {
///     #[error("the database is down")]
///     #[failure(retry)]
///     Database(#[from] std::io::Error),
///     #[error("there is no article {0}")]
///     #[failure(dead_letter)]
///     UnknownArticle(String),
///     #[error("already reserved")]
///     #[failure(skip)]
///     AlreadyReserved,
/// }
///
/// let error = ReserveError::UnknownArticle("x".to_owned());
/// assert_eq!(error.disposition(), Disposition::DeadLetter);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what is to be done about it",
    label = "is no `Failure`",
    note = "derive it: `#[derive(Debug, thiserror::Error, Failure)]` with `#[failure(retry | dead_letter | declared | skip | conflict)]` on each variant",
    note = "or return `wharf::Error`, into which `?` turns any error, to be retried"
)]
pub trait Failure: StdError + Send + Sync + 'static {
    /// What is to be done.
    fn disposition(&self) -> Disposition;
}

/// Any error of a handler, for where an enum of its own is too much. `?` makes one of everything
/// that is an error; it is retried unless it was made by one of the functions.
///
/// ```
/// async fn handle(wharf::Raw(message): wharf::Raw) -> Result<(), wharf::Error> {
///     let text = std::str::from_utf8(message.payload.as_deref().unwrap_or_default())
///         .map_err(wharf::Error::dead_letter)?;
///     let _number: u64 = text.trim().parse().map_err(wharf::Error::dead_letter)?;
///     Ok(())
/// }
/// ```
///
/// ```
/// use wharf::{Disposition, Error, IntoFailed, Reason};
///
/// let skipped = Error::skip("already shipped").into_failed();
/// assert_eq!(skipped.disposition, Disposition::Skip);
/// let quicker = Error::conflict("another version is there").into_failed();
/// assert_eq!(quicker.disposition, Disposition::Conflict);
/// let down = Error::from(std::io::Error::other("the disk is full")).into_failed();
/// assert_eq!((down.disposition, down.error.as_str()), (Disposition::Retry, "the disk is full"));
/// assert_eq!(Error::dead_letter("no such article").into_failed().reason, Reason::Rejected);
/// ```
pub struct Error {
    source: Box<dyn StdError + Send + Sync>,
    disposition: Disposition,
}

impl Error {
    pub(crate) fn new(
        source: impl Into<Box<dyn StdError + Send + Sync>>,
        disposition: Disposition,
    ) -> Self {
        let source = source.into();
        Self {
            source,
            disposition,
        }
    }

    /// To be tried again.
    pub fn retry(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(source, Disposition::Retry)
    }

    /// To be set aside at once.
    pub fn dead_letter(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(source, Disposition::DeadLetter)
    }

    /// Refused for a reason of the business, which has a name: nothing was done, and that is certain. A
    /// saga's `Retry`, `Catch` and `CompensateOn` match the name.
    pub fn declared(
        name: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(source, Disposition::Declared(name.into()))
    }

    /// Nothing is wrong; the message is done.
    pub fn skip(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(source, Disposition::Skip)
    }

    /// Another worker was quicker: again at once, and it counts as no attempt.
    pub fn conflict(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(source, Disposition::Conflict)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} ({:?})", self.source, self.disposition)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, formatter)
    }
}

/// A failed attempt, as the runtime sees it.
///
/// ```
/// use wharf::{Disposition, Failed, Reason};
///
/// let broken = Failed::for_ever(Reason::Undecodable, "the payload is no image");
/// assert_eq!(broken.disposition, Disposition::DeadLetter);
/// let busy = Failed::for_now(Reason::RetriesExhausted, "the printer is busy");
/// assert_eq!(busy.disposition, Disposition::Retry);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The class it gets if it is set aside.
    pub reason: Reason,
    /// The error and its causes, outermost first, one per line.
    pub error: String,
    /// What is to be done.
    pub disposition: Disposition,
}

impl Failed {
    /// Of the handler's own error.
    pub fn from_failure(failure: &impl Failure) -> Self {
        Self::of_handler(chain(failure), known(failure, failure.disposition()))
    }

    pub(crate) fn of_handler(error: String, disposition: Disposition) -> Self {
        let reason = match disposition {
            Disposition::DeadLetter | Disposition::Declared(_) => Reason::Rejected,
            _ => Reason::RetriesExhausted,
        };
        Self {
            reason,
            error,
            disposition,
        }
    }

    /// That can never succeed, for a reason that the library found.
    pub fn for_ever(reason: Reason, error: impl fmt::Display) -> Self {
        Self {
            reason,
            error: error.to_string(),
            disposition: Disposition::DeadLetter,
        }
    }

    /// That may pass.
    pub fn for_now(reason: Reason, error: impl fmt::Display) -> Self {
        Self {
            reason,
            error: error.to_string(),
            disposition: Disposition::Retry,
        }
    }
}

/// Whatever a handler may return as its error.
///
/// ```
/// use wharf::{Failed, IntoFailed, Reason};
///
/// /// An error of a library of yours that is no `Failure`.
/// struct NoPaper;
///
/// impl IntoFailed for NoPaper {
///     fn into_failed(self) -> Failed {
///         Failed::for_now(Reason::RetriesExhausted, "there is no paper")
///     }
/// }
///
/// async fn print(wharf::Raw(_): wharf::Raw) -> Result<(), NoPaper> {
///     Err(NoPaper)
/// }
/// # wharf::group::<()>("g").on(print);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler",
    label = "does not say what is to be done about it",
    note = "derive `Failure` for it, or return `wharf::Error`, into which `?` turns any error"
)]
pub trait IntoFailed {
    /// What happened and what is to be done.
    fn into_failed(self) -> Failed;
}

impl<F: Failure> IntoFailed for F {
    fn into_failed(self) -> Failed {
        Failed::from_failure(&self)
    }
}

impl IntoFailed for Error {
    fn into_failed(self) -> Failed {
        Failed::of_handler(chain(&*self.source), known(&*self.source, self.disposition))
    }
}

/// An error and its causes, outermost first, one per line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push('\n');
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What is to be retried because a database said that another transaction was in the way, is no
/// failure.
fn known(error: &(dyn StdError + 'static), said: Disposition) -> Disposition {
    #[cfg(feature = "sql")]
    if said == Disposition::Retry
        && wharf_outbox::classify_chain(error) == Some(wharf_outbox::Class::Conflict)
    {
        return Disposition::Conflict;
    }
    #[cfg(not(feature = "sql"))]
    let _unused_without_a_database = error;
    said
}
