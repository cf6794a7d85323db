//! Plain connections to brokers, for the requests that librdkafka has no call for.
//!
//! One request at a time, each with a deadline; an answer is bounded, and checked before it is
//! decoded (`wharf_kafka::client`). Everything that goes wrong is told as a [`Problem`].

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use wharf_kafka::client::{self, ClientError};
use wharf_message::Code;
use wharf_server::Problem;

use crate::client::PATIENCE;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How much memory is taken before as much has come.
const CHUNK_BYTES: usize = 64 << 10;

/// A user with a password (SASL PLAIN).
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A connection to one broker that knows which versions of requests it answers.
#[derive(Debug)]
pub(crate) struct Wire {
    address: String,
    stream: TcpStream,
    versions: Option<ApiVersionsResponse>,
    asked: i32,
}

impl Wire {
    /// Connects to `HOST:PORT`, asks for the versions that are spoken there, and logs in.
    pub(crate) fn connect(address: &str, login: Option<&Login>) -> Result<Self> {
        let stream = open(address).map_err(|error| unreachable(address, &error.to_string()))?;
        let mut wire = Self {
            address: address.to_owned(),
            stream,
            versions: None,
            asked: 0,
        };
        let versions = wire.ask(&ApiVersionsRequest::default())?;
        if let Some(error) = ResponseError::try_from_code(versions.error_code) {
            let what = format!("{address} does not tell which requests it answers");
            return Err(refused(what, error, None));
        }
        wire.versions = Some(versions);
        if let Some(login) = login {
            wire.log_in(login)?;
        }
        Ok(wire)
    }

    fn log_in(&mut self, login: &Login) -> Result<()> {
        let what = format!("{} does not let {:?} in", self.address, login.user);
        let mechanism = StrBytes::from_static_str("PLAIN");
        let handshake = SaslHandshakeRequest::default().with_mechanism(mechanism);
        let answer = self.ask(&handshake)?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            let known: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            let said = format!("it knows {} and not PLAIN", known.join(", "));
            return Err(refused(what, error, Some(&said)));
        }
        let token = format!("\0{}\0{}", login.user, login.password);
        let request = SaslAuthenticateRequest::default().with_auth_bytes(token.into());
        let answer = self.ask(&request)?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(()),
            Some(error) => Err(refused(what, error, answer.error_message.as_deref())),
        }
    }

    /// Asks in the newest version that both sides have.
    pub(crate) fn ask<Q: Request>(&mut self, request: &Q) -> Result<Q::Response> {
        let version = self.version::<Q>()?;
        self.asked = self.asked.wrapping_add(1);
        let frame = client::request(version, "wharf-cli", self.asked, request)
            .map_err(|error| self.broken(&error))?;
        let answer = self
            .exchange(&frame)
            .map_err(|error| unreachable(&self.address, &error.to_string()))?;
        client::answer::<Q>(version, self.asked, answer).map_err(|error| self.broken(&error))
    }

    /// The newest version of a request that both sides have.
    fn version<Q: Request>(&self) -> Result<i16> {
        let Some((name, ours)) = client::asked_in::<Q>() else {
            return Err(self.broken(&ClientError::NotAsked(Q::KEY, 0)));
        };
        // Before they are known only the request for them is asked.
        let Some(versions) = &self.versions else {
            return Ok(*ours.start());
        };
        let mut keys = versions.api_keys.iter();
        let theirs = keys
            .find(|one| one.api_key == Q::KEY)
            .map(|one| one.min_version..=one.max_version);
        let newest = theirs.as_ref().and_then(|theirs| common(&ours, theirs));
        newest.ok_or_else(|| {
            let why = match theirs {
                Some(theirs) => format!(
                    "it answers {name} in versions {} to {}, and this command asks in {} to {}",
                    theirs.start(),
                    theirs.end(),
                    ours.start(),
                    ours.end()
                ),
                None => format!("it does not answer {name} requests"),
            };
            Problem::plain(
                format!("the broker at {} cannot do this", self.address),
                why,
                "ask a broker of another version; Apache Kafka has all of these from 3.0 on",
            )
            .into()
        })
    }

    /// Sends a frame and reads the one that answers it.
    fn exchange(&mut self, frame: &Bytes) -> io::Result<Bytes> {
        let deadline = Instant::now() + PATIENCE;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(frame)?;
        let length = self.read(4, deadline)?;
        let length = length.try_into().map_or(-1, i32::from_be_bytes);
        match usize::try_from(length) {
            Ok(length) if length <= ANSWER_BYTES_MAX => {
                self.read(length, deadline).map(Bytes::from)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer of {length} bytes is none"),
            )),
        }
    }

    /// Reads so many bytes, all of them before the deadline.
    fn read(&mut self, length: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(too_late());
            }
            self.stream.set_read_timeout(Some(left))?;
            let filled = bytes.len();
            bytes.resize(length.min(filled + CHUNK_BYTES), 0);
            let came = match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
                Err(error) => return Err(error),
            };
            bytes.truncate(filled + came);
        }
        Ok(bytes)
    }

    fn broken(&self, error: &ClientError) -> anyhow::Error {
        Problem::plain(
            format!("the broker at {} could not be asked", self.address),
            error.to_string(),
            "check that it is a Kafka broker, and which version it has",
        )
        .into()
    }
}

/// The newest version in both ranges.
fn common(ours: &RangeInclusive<i16>, theirs: &RangeInclusive<i16>) -> Option<i16> {
    let newest = *ours.end().min(theirs.end());
    (ours.contains(&newest) && theirs.contains(&newest)).then_some(newest)
}

fn too_late() -> io::Error {
    let seconds = PATIENCE.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no whole answer came within {seconds} s"),
    )
}

fn open(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreachable(address: &str, why: &str) -> anyhow::Error {
    Problem::new(
        Code::BROKER_UNREACHABLE,
        format!("no broker answered at {address}"),
        why,
        "start one with `wharf serve`, or name another with --broker HOST:PORT",
    )
    .into()
}

/// What a broker's refusal means to the person at the command line. `said` is the broker's own
/// sentence, where it has one.
pub(crate) fn refused(
    what: impl Into<String>,
    error: ResponseError,
    said: Option<&str>,
) -> anyhow::Error {
    let why = match said.filter(|said| !said.is_empty()) {
        Some(said) => format!("{said} ({error})"),
        None => format!("the broker refused it: {error}"),
    };
    let fix = if error.is_retriable() {
        "try again; when it stays so, the broker's log says more"
    } else {
        "change what was asked; the broker's log may say more"
    };
    Problem::plain(what, why, fix).into()
}

/// A broker that answers by heart.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::BTreeMap;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use bytes::{Buf, BufMut, BytesMut};
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
    use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};

    /// Answers by key: the version, and what follows the correlation id.
    #[derive(Debug, Default)]
    pub(crate) struct Answers(BTreeMap<i16, (i16, BytesMut)>);

    impl Answers {
        /// Answers all requests of this kind alike.
        pub(crate) fn with<Q: Request>(mut self, version: i16, answer: &Q::Response) -> Self {
            let mut body = BytesMut::new();
            if Q::Response::header_version(version) > 0 {
                body.put_u8(0);
            }
            answer.encode(&mut body, version).expect("a whole answer");
            self.0.insert(Q::KEY, (version, body));
            self
        }
    }

    /// Answers on one connection until it is closed; what was asked on it comes out in the end.
    pub(crate) fn serve(listener: TcpListener, answers: Answers) -> thread::JoinHandle<Vec<u8>> {
        let keys = answers.0.iter().map(|(key, (version, _))| {
            ApiVersion::default()
                .with_api_key(*key)
                .with_min_version(*version)
                .with_max_version(*version)
        });
        let versions = ApiVersionsResponse::default().with_api_keys(keys.collect());
        let answers = answers.with::<ApiVersionsRequest>(0, &versions);
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the test connects");
            let (mut length, mut asked) = ([0; 4], Vec::new());
            while stream.read_exact(&mut length).is_ok() {
                let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
                let mut request = vec![0; length];
                stream.read_exact(&mut request).expect("a whole request");
                let mut header = &request[..];
                let (key, version) = (header.get_i16(), header.get_i16());
                let (known, body) = &answers.0[&key];
                assert_eq!(*known, version, "the version of key {key}");
                let mut frame = BytesMut::new();
                frame.put_i32(i32::try_from(body.len() + 4).expect("a length"));
                frame.put_i32(header.get_i32());
                frame.put_slice(body);
                stream.write_all(&frame).expect("the test reads");
                asked.append(&mut request);
            }
            asked
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use kafka_protocol::messages::{SaslAuthenticateResponse, SaslHandshakeResponse};

    use super::*;

    /// A server that sends these bytes to whoever connects, and then closes.
    fn saying(bytes: Vec<u8>) -> (String, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the test connects");
            let mut request = [0; 4];
            stream.read_exact(&mut request).expect("a request comes");
            let length = usize::try_from(i32::from_be_bytes(request)).expect("a length");
            io::copy(&mut (&stream).take(length as u64), &mut io::sink()).expect("the rest of it");
            stream.write_all(&bytes).expect("the test reads");
        });
        (address, server)
    }

    fn problem_with(bytes: Vec<u8>) -> Problem {
        let (address, server) = saying(bytes);
        let error = Wire::connect(&address, None).expect_err("that is no broker");
        server.join().expect("the server ended");
        error.downcast().expect("a problem for a person")
    }

    #[test]
    fn what_is_no_broker_is_told_and_never_waited_for() {
        let cut = problem_with(vec![0, 0, 0, 100, 0]);
        assert_eq!(cut.code, Some(Code::BROKER_UNREACHABLE));
        for length in [-1, i32::MAX] {
            let told = problem_with(length.to_be_bytes().to_vec());
            assert!(told.why.contains("is none"), "{told}");
        }
        let mut http = Vec::from(40_i32.to_be_bytes());
        http.extend([b'x'; 40]);
        let told = problem_with(http);
        assert!(told.why.contains("another request"), "{told}");
        let many = [
            &[0, 0, 0, 10, 0, 0, 0, 1, 0, 0][..],
            &[0x7f, 0xff, 0xff, 0xff],
        ]
        .concat();
        let told = problem_with(many);
        assert!(told.why.contains("no answer to ApiVersions"), "{told}");
    }

    #[test]
    fn a_request_that_the_broker_does_not_answer_is_told_by_name() {
        // Version 0: no error, one key: Produce.
        let none = [&[0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1][..], &[0; 6]].concat();
        let (address, server) = saying(none);
        let wire = Wire::connect(&address, None).expect("it tells its versions");
        server.join().expect("the server ended");
        let error = wire
            .version::<kafka_protocol::messages::ListTransactionsRequest>()
            .expect_err("it has only Produce");
        let problem: Problem = error.downcast().expect("a problem for a person");
        assert!(problem.why.contains("ListTransactions"), "{problem}");
    }

    #[test]
    fn a_user_is_let_in_or_told_why_not() {
        let login = Login {
            user: "alice".to_owned(),
            password: "secret".to_owned(),
        };
        assert!(!format!("{login:?}").contains("secret"));
        let refusal = ResponseError::SaslAuthenticationFailed.code();
        for (code, let_in) in [(0, true), (refusal, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let address = listener.local_addr().expect("it is bound").to_string();
            let answer = SaslAuthenticateResponse::default().with_error_code(code);
            let answers = fake::Answers::default()
                .with::<SaslHandshakeRequest>(1, &SaslHandshakeResponse::default())
                .with::<SaslAuthenticateRequest>(0, &answer);
            let server = fake::serve(listener, answers);
            match Wire::connect(&address, Some(&login)) {
                Ok(_) => assert!(let_in),
                Err(error) => assert!(!let_in && error.to_string().contains("alice"), "{error}"),
            }
            let asked = server.join().expect("the broker ended");
            let token = b"\0alice\0secret";
            assert!(asked.windows(token.len()).any(|bytes| bytes == token));
        }
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        assert_eq!(common(&(0..=1), &(0..=5)), Some(1));
        assert_eq!(common(&(4..=4), &(0..=6)), Some(4));
        assert_eq!(common(&(0..=1), &(0..=0)), Some(0));
        assert_eq!(common(&(1..=1), &(2..=3)), None);
        assert_eq!(common(&(4..=4), &(0..=3)), None);
    }
}
