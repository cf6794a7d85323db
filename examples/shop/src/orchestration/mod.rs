//! The shop as an orchestrated saga: a definition says what comes after what, and what undoes it; the
//! services do single steps and know nothing of each other.
//!
//! A checkout becomes a row of the order service, and in the same transaction a row of its outbox that
//! starts the saga. The node sends each step to a command topic; the service that reads it keeps its rows,
//! the command's row in its inbox and what it answers in one transaction. Cards are declined, parcels
//! are too heavy, and some refunds are refused for good: those sagas wait for a person.
//!
//! At the end the sagas, the services' rows and the broker's own topics must agree; [`Report::checks`]
//! says so line by line.

mod books;
mod definition;
mod report;
mod run;
mod services;

pub use definition::{NAME, definition};
pub use report::Report;
pub use run::{Glance, Options, open};
