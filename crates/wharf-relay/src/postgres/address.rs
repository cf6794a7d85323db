//! Where a database is and who asks, for the replication connection: the same as for the other one.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::tls::Tls;

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At a Unix socket.
    Socket(PathBuf),
    /// At a host and port.
    Host(String, u16),
}

/// Where a database is, and who asks.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    pub(crate) tls: Tls,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (place, user, database) = (&self.place, &self.user, &self.database);
        formatter
            .debug_struct("Address")
            .field("place", place)
            .field("user", user)
            .field("database", database)
            .finish_non_exhaustive()
    }
}

impl Address {
    /// As these options say.
    pub(crate) fn new(options: &PgConnectOptions) -> Self {
        let url = options.to_url_lossy();
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        // sqlx writes paths with this word before them.
        let file = |name: &str| {
            let (_, file) = url.query_pairs().find(|(key, _)| key == name)?;
            Some(PathBuf::from(file.strip_prefix("file: ").unwrap_or(&file)))
        };
        let user = options.get_username().to_owned();
        let (host, port) = (options.get_host(), options.get_port());
        let socket = options.get_socket().cloned();
        let socket = socket.or_else(|| host.starts_with('/').then(|| host.into()));
        Self {
            place: match socket {
                Some(folder) => Place::Socket(folder.join(format!(".s.PGSQL.{port}"))),
                None => Place::Host(host.to_owned(), port),
            },
            password: url.password().map(decode).unwrap_or_default(),
            database: options.get_database().unwrap_or(&user).to_owned(),
            user,
            tls: Tls {
                mode: options.get_ssl_mode(),
                roots: file("sslrootcert"),
                identity: file("sslcert").zip(file("sslkey")),
            },
        }
    }
}
