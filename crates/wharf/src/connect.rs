//! Addresses to transports.

use std::sync::Arc;

use wharf_message::transport::Transport;

use crate::bus::{Bus, BusError};

impl Bus {
    /// Connects to the broker at `address`, for a service of this name.
    ///
    /// | address | transport | feature |
    /// |---|---|---|
    /// | `memory:` | in this process, kept nowhere | – |
    ///
    /// # Errors
    /// [`BusError::Address`] says what is wrong with the address; otherwise the transport's error.
    pub async fn connect(address: &str, service: &str) -> Result<Self, BusError> {
        let transport = transport(address).await?;
        Ok(Self::new(transport, service))
    }
}

async fn transport(address: &str) -> Result<Arc<dyn Transport>, BusError> {
    let invalid = |why: &str| BusError::Address {
        address: address.to_owned(),
        why: why.to_owned(),
    };
    let (scheme, _) = address
        .split_once(':')
        .ok_or_else(|| invalid("it begins with no scheme"))?;
    Err(invalid(&format!("there is no transport {scheme}")))
}
