//! Configuration: plain structs, one precedence, and an origin for every value.
//!
//! Defaults < `wharf.toml` < `WHARF_SECTION__KEY` < flags. Only [`Sources::from_process`] reads
//! the environment; everything after it is a function of its arguments. An unknown key is never
//! ignored and a bad value never replaced by a default: both are `WHARF-1003`, with the place
//! they came from.
//! Relays have a table each, `[relay.<name>]`; passwords in their addresses are never shown.

mod check;
mod file;
mod load;
mod reference;
mod relay;
mod saga;
mod settings;
mod show;
mod units;

pub(crate) use check::beyond_loopback;
pub use load::{Loaded, Origin, Override, Sources};
pub use reference::reference;
pub use relay::{Database, Lacking, Mode, SecretUrl, Valueless};
pub use saga::{Mapping, Secret, User};
pub use settings::{
    Choreography, Config, Groups, Http, Kafka, Log, Node, Relay, Sagas, SchemaRegistry, Setting,
    Topics,
};
pub use show::{to_json, to_toml};
pub use units::{Address, ByteCount, InvalidUnit, Limit, Migration, Period};
