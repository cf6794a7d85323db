//! Extractors: what a handler's arguments are made of.
//!
//! All arguments but the last take parts of what is known about a message ([`FromParts`]); the last
//! one takes the payload ([`FromIncoming`]). A payload that cannot be read is a dead letter; it is
//! never the handler's business.

mod parts;
mod payload;

pub use parts::{Attempt, Correlation, Deadline, FromRef, Key, State};
pub use payload::{Batch, Msg, Raw};

use wharf_message::{Headers, header};

use crate::failure::Failed;
use crate::incoming::Incoming;

/// An argument of a handler that does not take the payload.
///
/// Implement it for your own types to read headers, claims, tenants:
///
/// ```
/// use wharf::{Failed, FromParts, Incoming, Nothing, Reason};
///
/// struct Tenant(String);
///
/// impl<S> FromParts<S> for Tenant {
///     type Holds = Nothing;
///
///     fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
///         let tenant = incoming.first().message.headers.text("tenant");
///         match tenant {
///             Ok(Some(tenant)) => Ok(Self(tenant.to_owned())),
///             Ok(None) => Err(Failed::for_ever(Reason::Undecodable, "there is no header tenant")),
///             Err(error) => Err(Failed::for_ever(Reason::Undecodable, error)),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler (before the last one)",
    label = "takes nothing out of a message",
    note = "the arguments before the last are extractors: `State`, `Meta`, `Headers`, `Key`, `Attempt`, `Deadline`, `Tx`; the payload (`Msg`, `Batch`, `Raw`, `Blob`) comes last"
)]
pub trait FromParts<S>: Sized + Send {
    /// What it holds while the handler runs; [`Nothing`] for most.
    type Holds: Holding;

    /// Takes it out.
    ///
    /// # Errors
    /// What becomes of the message.
    fn from_parts(incoming: &mut Incoming, state: &S) -> Result<Self, Failed>;
}

/// The last argument of a handler: the payload.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the last argument of a handler",
    label = "takes no payload",
    note = "the last argument is `Msg<T>`, `Batch<T>`, `Raw` or `Blob`, where `T` is an `Event`"
)]
pub trait FromIncoming<S>: Sized + Send {
    /// Which messages it takes.
    const TAKES: Takes;

    /// How many messages at a time: one, or a batch.
    const BATCH: bool = false;

    /// The schema of the event it reads, if that brings one.
    #[cfg(feature = "schema")]
    fn contract() -> Contracted {
        None
    }

    /// Takes it out.
    ///
    /// # Errors
    /// What becomes of the message.
    fn from_incoming(incoming: Incoming, state: &S) -> Result<Self, Failed>;
}

/// What [`Event::contract`](crate::Event::contract) gives.
#[cfg(feature = "schema")]
pub type Contracted = Option<Result<&'static crate::schema::Contract, crate::schema::SchemaError>>;

/// Which messages a handler takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Those of this CloudEvents `type`.
    Type(&'static str),
    /// The commands of sagas, without those that undo.
    Commands,
    /// The commands of sagas that undo.
    Undos,
    /// Every message.
    Any,
}

impl Takes {
    /// In words.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Type(kind) => kind,
            Self::Commands => "every command",
            Self::Undos => "every command that undoes",
            Self::Any => "every message",
        }
    }

    /// What takes the message with these headers, if it is a command of a saga.
    pub(crate) fn of_command(headers: &Headers) -> Option<Self> {
        let is_command = headers.contains(header::SAGA_ID) && headers.contains(header::SAGA_STEP);
        let is_undo = headers.text(header::SAGA_UNDO) == Ok(Some("true"));
        match (is_command, is_undo) {
            (false, _) => None,
            (true, true) => Some(Self::Undos),
            (true, false) => Some(Self::Commands),
        }
    }

    /// Whether a saga waits for what comes of such a message.
    #[cfg(feature = "saga")]
    pub(crate) fn is_command(self) -> bool {
        matches!(self, Self::Commands | Self::Undos)
    }
}

/// An extractor that holds nothing that others could wait for.
#[derive(Debug)]
pub struct Nothing;

/// An extractor that holds a database transaction.
#[derive(Debug)]
pub struct Transaction;

/// An extractor that may wait for another service.
#[derive(Debug)]
pub struct Waiting;

/// What an extractor holds: [`Nothing`], [`Transaction`] or [`Waiting`].
pub trait Holding {
    /// Whether it needs the transaction of an inbox.
    const TRANSACTION: bool = false;
}

impl Holding for Nothing {}
impl Holding for Waiting {}
impl Holding for Transaction {
    const TRANSACTION: bool = true;
}

/// That two arguments of a handler may stand beside each other: not a transaction beside waiting for
/// another service, which would keep its locks for as long as the other one pleases.
#[diagnostic::on_unimplemented(
    message = "a handler cannot hold a database transaction and wait for a reply",
    label = "`Tx` and `Requests` in one handler",
    note = "the transaction would keep its locks until the reply comes: ask in one handler, and write in the one that handles the reply"
)]
pub trait Beside<Other> {}

impl Beside<Nothing> for Nothing {}
impl Beside<Transaction> for Nothing {}
impl Beside<Waiting> for Nothing {}
impl Beside<Nothing> for Transaction {}
impl Beside<Transaction> for Transaction {}
impl Beside<Nothing> for Waiting {}
impl Beside<Waiting> for Waiting {}

/// That the arguments of a handler may stand [`Beside`] each other, every pair of them.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "these arguments cannot be in one handler",
    label = "a transaction must not wait for a reply"
)]
pub trait Compatible<S> {}

macro_rules! compatible {
    ($([$($all:ident)*])+) => { $(compatible!(@pairs [$($all),*] [] $($all)*);)+ };
    (@pairs [$($all:ident),*] [$($bounds:tt)*] $first:ident $($rest:ident)*) => {
        compatible!(
            @pairs [$($all),*] [$($bounds)* $($first::Holds: Beside<$rest::Holds>,)*] $($rest)*
        );
    };
    (@pairs [$($all:ident),*] [$($bounds:tt)*]) => {
        impl<S, $($all: FromParts<S>),*> Compatible<S> for ($($all,)*) where $($bounds)* {}
    };
}

compatible! { [] [A] [A B] [A B C] [A B C D] [A B C D E] [A B C D E F] [A B C D E F G] }
