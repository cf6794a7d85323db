//! Asking a node's HTTP API: one request, one answer of JSON, bounded in size and time.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use wharf_message::Code;
use wharf_server::Problem;

use crate::output::clean;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take, beyond what the request itself waits for.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where the node's HTTP API is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct NodeApi {
    /// The HTTP address of the node [env: WHARF_HTTP]
    #[arg(
        long,
        env = "WHARF_HTTP",
        hide_env = true,
        default_value = "127.0.0.1:8080",
        value_name = "HOST:PORT"
    )]
    http: String,
}

/// An answer: its status, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl NodeApi {
    /// That of a node whose address is known.
    pub(crate) fn at(http: String) -> Self {
        Self { http }
    }

    /// Asks; `wait` is how long the node itself may take.
    pub(crate) fn ask(&self, method: &str, path: &str, wait: Duration) -> anyhow::Result<Answer> {
        self.send(method, path, None, wait)
    }

    /// Asks with a document.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> anyhow::Result<Answer> {
        exchange(&self.http, method, path, body, wait)
            .map_err(|error| self.unreachable(&error.to_string()).into())
    }

    fn unreachable(&self, why: &str) -> Problem {
        Problem::new(
            Code::BROKER_UNREACHABLE,
            format!("the HTTP API of a node at {} cannot be asked", self.http),
            why,
            "start the node, or say where it is with --http or WHARF_HTTP",
        )
    }
}

/// One request of a server that speaks HTTP and JSON.
pub(crate) fn exchange(
    host: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
    wait: Duration,
) -> std::io::Result<Answer> {
    let nonsense = || std::io::Error::other("what answers there does not speak HTTP and JSON");
    let mut failed = std::io::Error::other("the name has no address");
    for address in host.to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => stream,
            Err(error) => {
                failed = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(wait.saturating_add(ANSWER)))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        // With 1.0 the end of the answer is the end of the connection.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(nonsense)?;
        let status = head.split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        return Ok(Answer {
            status: status.ok_or_else(nonsense)?,
            body: serde_json::from_str(body).map_err(|_other| nonsense())?,
        });
    }
    Err(failed)
}

impl Answer {
    /// The body of a good answer; otherwise what the node says of it, and what to do then.
    pub(crate) fn good(self, fix: &str) -> anyhow::Result<Value> {
        if self.status < 300 {
            return Ok(self.body);
        }
        let text = |key: &str| clean(self.body[key].as_str().unwrap_or_default());
        Err(Problem::plain(text("title"), text("detail"), fix).into())
    }
}

/// The rows out of an answer; none where there is no list.
pub(crate) fn taken(value: &mut Value) -> Vec<Value> {
    match value.take() {
        Value::Array(all) => all,
        _ => Vec::new(),
    }
}
