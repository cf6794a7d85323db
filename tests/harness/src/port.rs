//! Ports for servers that cannot choose one themselves.
//!
//! A port that was merely free a moment ago may be given to somebody else before the server takes it:
//! a virtual machine needs seconds for that. So a socket stays bound to it that never listens. Linux
//! gives such a port to nobody who asks for any, and lets a server have it that asks for this one with
//! `SO_REUSEADDR`, as servers do. Elsewhere it is only chosen, not held.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, getsockname, socket, sockopt};

/// A port of the loopback interface that is given to nobody else as long as this lives; until a server
/// listens on it, connections are refused.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Option<OwnedFd>,
}

impl Port {
    /// Takes one that is free.
    pub fn reserve() -> Result<Self> {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        // A server that is started must not inherit it.
        fcntl_setfd(&held, FdFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&held, true)?;
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::try_from(getsockname(&held)?);
        Ok(Self {
            number: address.context("it is not of IPv4")?.port(),
            _held: cfg!(target_os = "linux").then_some(held),
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_refuses_connections_until_a_server_takes_it() {
        let port = Port::reserve().unwrap();
        let address = ("127.0.0.1", port.number());
        assert!(TcpStream::connect(address).is_err());
        let server = TcpListener::bind(address).unwrap();
        TcpStream::connect(address).unwrap();
        drop(server);
        // It starts again on the same port.
        TcpListener::bind(address).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_reserved_port_is_given_to_nobody_who_asks_for_any() {
        let port = Port::reserve().unwrap();
        // More than there are to be given.
        for _ in 0..100_000 {
            let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            assert_ne!(other.local_addr().unwrap().port(), port.number());
        }
    }
}
