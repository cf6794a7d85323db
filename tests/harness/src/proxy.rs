//! A proxy for TCP on the loopback interface that loses connections when it is told to.
//!
//! Invariants: while it is cut, no byte passes in either direction and every new connection ends at
//! once; what ends is closed on both sides. Its threads end with it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

/// How much is copied at a time, in bytes.
const COPY_BYTES: usize = 64 << 10;

/// A running proxy; it ends when it is dropped, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    is_cut: bool,
    is_over: bool,
    /// Both ends of every connection.
    ends: Vec<TcpStream>,
}

impl State {
    fn close_all(&mut self) {
        for end in self.ends.drain(..) {
            // The peer may have closed it before.
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Proxy {
    /// A proxy in front of `upstream` (`host:port`).
    pub fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            is_cut: false,
            is_over: false,
            ends: Vec::new(),
        }));
        let (shared, upstream) = (Arc::clone(&state), upstream.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                if lock(&shared).is_over {
                    return;
                }
                // A client that is gone again, or a server that is down: the client is told by the end
                // of its connection.
                client.and_then(|it| join(it, &upstream, &shared)).ok();
            }
        });
        Ok(Self { address, state })
    }

    /// Where clients connect: `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends every connection, and every new one at once, until [`Self::restore`].
    pub fn cut(&self) {
        let mut state = lock(&self.state);
        state.is_cut = true;
        state.close_all();
    }

    /// Lets connections through again.
    pub fn restore(&self) {
        lock(&self.state).is_cut = false;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.close_all();
        }
        // Wakes the thread that accepts; if that fails, it has ended already.
        TcpStream::connect(self.address).ok();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins a client to a connection of its own to the server.
fn join(client: TcpStream, upstream: &str, state: &Mutex<State>) -> io::Result<()> {
    if lock(state).is_cut {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(upstream)?;
    let pairs = [
        (client.try_clone()?, server.try_clone()?),
        (server.try_clone()?, client.try_clone()?),
    ];
    let mut state = lock(state);
    if state.is_cut || state.is_over {
        // It was cut while the server was being reached.
        return client.shutdown(Shutdown::Both);
    }
    state.ends.extend([client, server]);
    drop(state);
    for (from, to) in pairs {
        from.set_nodelay(true)?;
        thread::spawn(move || copy(from, to));
    }
    Ok(())
}

/// Copies until one side ends, then ends the other.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; COPY_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every byte with itself.
    fn echo() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let back = stream.try_clone().unwrap();
                thread::spawn(move || copy(stream, back));
            }
        });
        address
    }

    fn answer(stream: &mut TcpStream) -> io::Result<usize> {
        stream.write_all(b"x")?;
        stream.read(&mut [0; 1])
    }

    #[test]
    fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_restored() {
        let proxy = Proxy::start(&echo()).unwrap();
        let mut before = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(answer(&mut before).unwrap(), 1);
        proxy.cut();
        assert!(matches!(answer(&mut before), Ok(0) | Err(_)));
        let mut during = TcpStream::connect(proxy.address()).unwrap();
        assert!(matches!(answer(&mut during), Ok(0) | Err(_)));
        proxy.restore();
        let mut after = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(answer(&mut after).unwrap(), 1);
    }
}
