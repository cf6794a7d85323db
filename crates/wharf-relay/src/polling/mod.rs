//! Sources that read an outbox table by asking for it again and again.
//!
//! Needs no right to replicate and works behind connection poolers. What each database promises, and
//! by which means, is said in its module.

mod backend;
mod lease;
#[cfg(feature = "mysql")]
pub mod mysql;
mod name;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod numbered;
pub(crate) mod pace;
#[cfg(feature = "postgres")]
pub mod postgres;
mod run;
mod settings;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "postgres")]
mod time;
mod trouble;

#[cfg(feature = "postgres")]
pub(crate) use backend::Reader;
#[cfg(feature = "postgres")]
pub(crate) use name::table_name;
pub use settings::Settings;
pub use wharf_outbox::TableName;
