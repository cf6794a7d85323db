//! HTTP as small as it can be, for both ends: the API is asked, workers and the webhook are served.
//!
//! Every exchange has its own connection, so that nothing hides which of them a kill cut off.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The most that an answer may take: a node that is stopped for a while answers late.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest body that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Asks, and gives the status and the body.
pub(super) fn ask(
    address: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, String)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut addresses = address.to_socket_addrs()?;
    let address = addresses.next().context("there is no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer was cut")?;
    let status = head.split(' ').nth(1).context("there is no status")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    ensure!(
        length.is_none_or(|length| length == body.len()),
        "the answer was cut"
    );
    Ok((status.parse()?, body.to_owned()))
}

/// Asks for JSON with GET; anything but 200 is an error.
pub(super) fn read(address: &str, path: &str) -> Result<Value> {
    let text = read_text(address, path)?;
    serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
}

/// The same as text.
pub(super) fn read_text(address: &str, path: &str) -> Result<String> {
    let (status, text) = ask(address, "GET", path, None)?;
    ensure!(status == 200, "{path}: {status} {text}");
    Ok(text)
}

/// A request as a server sees it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// A header by its name in small letters.
    pub(super) fn header(&self, name: &str) -> Result<&str> {
        let value = self.headers.get(name).map(String::as_str);
        value.with_context(|| format!("the header {name} is missing"))
    }
}

/// What answers requests.
pub(super) type Handler = dyn Fn(&Request) -> (u16, String) + Send + Sync;

/// Answers every request, each in a thread of its own, as long as the process lives.
pub(super) fn serve(listener: TcpListener, handler: Arc<Handler>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = Arc::clone(&handler);
            thread::spawn(move || {
                // Whoever asked may be gone, which is the point of all this.
                answer(&stream, handler.as_ref()).ok();
            });
        }
    });
}

fn answer(mut stream: &TcpStream, handler: &Handler) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = request(stream)?;
    let (status, body) = handler(&request);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} said\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    Ok(())
}

fn request(stream: &TcpStream) -> Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the request was cut");
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length");
    let length: usize = length.map_or(Ok(0), |length| length.parse())?;
    ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request {
        method,
        headers,
        body,
    })
}
