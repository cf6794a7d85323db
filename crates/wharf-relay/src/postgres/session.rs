//! A replication connection: queries while it is young, then the stream of the log.
//!
//! Invariants: a read that is dropped loses no byte; the server is never told more than the caller
//! says is durable; a frame is bounded before it is read.

use std::io;

use bytes::Bytes;
use pgwire_replication::auth::ScramClient;
use pgwire_replication::protocol::framing::{
    BackendMessage, MessageReader, write_copy_data, write_password_message, write_query,
    write_startup_message,
};
use pgwire_replication::protocol::{
    ErrorFields, PG_EPOCH_MICROS, ReplicationCopyData, encode_standby_status_update,
    parse_auth_request, parse_copy_data,
};
use pgwire_replication::{Lsn, PgWireError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Place};

/// The largest message that is read; Postgres itself has values of up to 1 GiB.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// How much is read at a time.
const READ_BYTES: usize = 128 << 10;
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;
/// The forms of values that the decoder expects, whatever the server's settings are.
const OPTIONS: &str = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC \
                       -c bytea_output=hex -c extra_float_digits=3";

/// What a connection is made of: a socket, or TLS over one.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a connection or a query came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The server says why.
    #[error("{} (SQLSTATE {})", .0.message.as_deref().unwrap_or("no reason"), .0.code.as_deref().unwrap_or("unknown"))]
    Server(Box<ErrorFields>),
    /// The password does not serve, or the server wants another way.
    #[error("{0}")]
    Credentials(String),
    /// The connection failed.
    #[error("the connection to the database failed: {0}")]
    Io(#[from] io::Error),
    /// Anything else.
    #[error("{0}")]
    Protocol(String),
}

impl Failed {
    fn server(payload: &[u8]) -> Self {
        Self::Server(Box::new(ErrorFields::parse(payload)))
    }

    /// The server's code, if it is the server's error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Server(fields) => fields.code.as_deref(),
            _ => None,
        }
    }
}

impl From<PgWireError> for Failed {
    fn from(error: PgWireError) -> Self {
        match error {
            PgWireError::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
            PgWireError::Auth(reason) => Self::Credentials(reason),
            other => Self::Protocol(other.to_string()),
        }
    }
}

type Result<T> = std::result::Result<T, Failed>;

/// A row of an answer: the text form of each value.
pub(crate) type Answer = Vec<Option<Bytes>>;

/// A replication connection.
pub(crate) struct Session {
    stream: BufReader<Box<dyn Stream>>,
    reader: MessageReader,
}

impl Session {
    /// Connects and says who it is.
    pub(crate) async fn connect(address: &Address) -> Result<Self> {
        let stream: Box<dyn Stream> = match &address.place {
            Place::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Place::Host(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                address.tls.secure(stream, host).await?
            }
        };
        let mut session = Self {
            stream: BufReader::with_capacity(READ_BYTES, stream),
            reader: MessageReader::new().with_max_message_size(FRAME_BYTES_MAX),
        };
        let parameters = [
            ("user", &*address.user),
            ("database", &address.database),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", "wharf-relay"),
            ("options", OPTIONS),
        ];
        write_startup_message(&mut session.stream, PROTOCOL, &parameters).await?;
        session.authenticate(address).await?;
        Ok(session)
    }

    async fn message(&mut self) -> Result<BackendMessage> {
        let message = self.reader.read(&mut self.stream).await?;
        match message.tag {
            b'E' => Err(Failed::server(&message.payload)),
            _ => Ok(message),
        }
    }

    async fn authenticate(&mut self, address: &Address) -> Result<()> {
        loop {
            let message = self.message().await?;
            match message.tag {
                b'R' => match parse_auth_request(&message.payload)? {
                    (0, _) => {}
                    (3, _) => {
                        let password = [address.password.as_bytes(), b"\0"].concat();
                        write_password_message(&mut self.stream, &password).await?;
                    }
                    (10, mechanisms) => self.scram(address, mechanisms).await?,
                    (5, _) => {
                        let reason = "the server asks for a password hashed with MD5";
                        return Err(Failed::Credentials(reason.to_owned()));
                    }
                    (way, _) => {
                        let reason = format!("the server asks for authentication of kind {way}");
                        return Err(Failed::Credentials(reason));
                    }
                },
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    async fn scram(&mut self, address: &Address, mechanisms: &[u8]) -> Result<()> {
        const NAME: &[u8] = b"SCRAM-SHA-256";
        if !mechanisms.split(|&byte| byte == 0).any(|name| name == NAME) {
            let reason = "the server does not offer SCRAM-SHA-256";
            return Err(Failed::Credentials(reason.to_owned()));
        }
        let scram = ScramClient::new(&address.user);
        let first = scram.client_first.as_bytes();
        let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
        let first = [NAME, b"\0", &length.to_be_bytes(), first].concat();
        write_password_message(&mut self.stream, &first).await?;
        let challenge = self.challenge(11).await?;
        let (last, signed, salted) = scram.client_final(&address.password, &challenge)?;
        write_password_message(&mut self.stream, last.as_bytes()).await?;
        let proof = self.challenge(12).await?;
        Ok(ScramClient::verify_server_final(&proof, &salted, &signed)?)
    }

    async fn challenge(&mut self, expected: i32) -> Result<String> {
        loop {
            let message = self.message().await?;
            if message.tag != b'R' {
                continue;
            }
            return match parse_auth_request(&message.payload)? {
                (step, text) if step == expected => Ok(String::from_utf8_lossy(text).into_owned()),
                (step, _) => Err(Failed::Credentials(format!(
                    "unexpected step {step} of SCRAM"
                ))),
            };
        }
    }

    /// Runs a statement or a replication command.
    pub(crate) async fn query(&mut self, statement: &str) -> Result<Vec<Answer>> {
        write_query(&mut self.stream, statement).await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let message = self.reader.read(&mut self.stream).await?;
            match message.tag {
                b'D' => rows.push(answer(&message.payload)?),
                b'E' => failed = Some(Failed::server(&message.payload)),
                b'Z' => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Begins the stream of a slot, from where the slot is.
    pub(crate) async fn start(&mut self, slot: &str, options: &str) -> Result<()> {
        let statement = format!("START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 ({options})");
        write_query(&mut self.stream, &statement).await?;
        let mut failed = None;
        loop {
            let message = self.reader.read(&mut self.stream).await?;
            match message.tag {
                b'W' => return Ok(()),
                b'E' => failed = Some(Failed::server(&message.payload)),
                b'Z' => {
                    let silent = || Failed::Protocol("the stream does not begin".to_owned());
                    return Err(failed.unwrap_or_else(silent));
                }
                _ => {}
            }
        }
    }

    /// The next message of the stream.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(crate) async fn read(&mut self) -> Result<ReplicationCopyData> {
        loop {
            let message = self.message().await?;
            match message.tag {
                b'd' => return Ok(parse_copy_data(message.payload)?),
                b'c' | b'C' | b'Z' => {
                    let reason = "the server ended the stream of the log";
                    return Err(io::Error::new(io::ErrorKind::ConnectionReset, reason).into());
                }
                _ => {}
            }
        }
    }

    /// Tells the server that everything before `flushed` is durable, and may ask for an answer.
    pub(crate) async fn feedback(&mut self, flushed: u64, answer: bool) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(i64::MAX);
        let update = encode_standby_status_update(Lsn(flushed), now - PG_EPOCH_MICROS, answer);
        Ok(write_copy_data(&mut self.stream, &update).await?)
    }

    /// Ends the stream and the connection, so that the slot is free at once.
    pub(crate) async fn close(mut self) {
        // It ends either way; the server then notices by itself.
        self.stream.shutdown().await.ok();
    }
}

/// The values of a row of an answer.
fn answer(payload: &Bytes) -> Result<Answer> {
    let malformed = || Failed::Protocol("an answer of the server ends too early".to_owned());
    let take = |at: usize, length: usize| payload.get(at..at + length).ok_or_else(malformed);
    let count = take(0, 2)?;
    let (count, mut at) = (u16::from_be_bytes([count[0], count[1]]), 2);
    let mut row = Vec::new();
    for _ in 0..count {
        let length = take(at, 4)?;
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            row.push(None);
            continue;
        };
        take(at, length)?;
        row.push(Some(payload.slice(at..at + length)));
        at += length;
    }
    Ok(row)
}
