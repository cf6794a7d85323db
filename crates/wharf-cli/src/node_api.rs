//! Asking a node's HTTP API: one request, one answer of JSON, bounded in size and time.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use wharf_message::Code;
use wharf_server::Problem;

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
    /// Asks; `wait` is how long the node itself may take.
    pub(crate) fn ask(&self, method: &str, path: &str, wait: Duration) -> anyhow::Result<Answer> {
        let text = self
            .exchange(method, path, wait)
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let nonsense = || self.unreachable("what answers there is no node of Wharf");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(nonsense)?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let body = serde_json::from_str(body).map_err(|_other| nonsense())?;
        let status = status.ok_or_else(nonsense)?;
        Ok(Answer { status, body })
    }

    fn exchange(&self, method: &str, path: &str, wait: Duration) -> std::io::Result<String> {
        let mut failed = std::io::Error::other("the name has no address");
        for address in self.http.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => stream,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            stream.set_read_timeout(Some(wait.saturating_add(ANSWER)))?;
            stream.set_write_timeout(Some(ANSWER))?;
            // With 1.0 the end of the answer is the end of the connection.
            let request = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.http);
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
            return Ok(answer);
        }
        Err(failed)
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

impl Answer {
    /// The body of a good answer; otherwise what the node says of it.
    pub(crate) fn good(self) -> anyhow::Result<Value> {
        if self.status < 300 {
            return Ok(self.body);
        }
        let text = |key: &str| self.body[key].as_str().unwrap_or_default().to_owned();
        let fix = "`wharf outbox status` shows what there is";
        Err(Problem::plain(text("title"), text("detail"), fix).into())
    }
}
