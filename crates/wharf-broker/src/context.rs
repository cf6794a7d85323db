//! Who is calling, from where.

use std::sync::Arc;

use wharf_message::Principal;

/// The circumstances of one request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The authenticated identity.
    pub principal: Principal,
    /// The client's own name (`client.id`), or empty.
    pub client_id: Arc<str>,
    /// The peer's address without the port, as group descriptions show it (`/127.0.0.1`).
    pub client_host: Arc<str>,
    /// The connection's number on this node.
    pub connection: u64,
}

impl Context {
    /// The context of the node's own roles.
    pub fn internal(role: &str) -> Self {
        Self {
            principal: Principal::internal(role),
            client_id: role.into(),
            client_host: "/internal".into(),
            connection: 0,
        }
    }
}
