//! The tables `[relay.<name>]`: one relay each, from an outbox table to topics.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// The databases that a relay reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
    /// SQLite.
    Sqlite,
}

impl Database {
    /// Its name in settings and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// What the addresses of such databases begin with.
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once(':')?;
        match scheme {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::Mysql),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }
}

/// How a relay reads its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// From the database's log.
    Log,
    /// By asking for new rows.
    Poll,
}

impl Mode {
    /// Its name in settings and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Poll => "poll",
        }
    }
}

/// What a column that the table lacks means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lacking {
    /// The row is set aside.
    Error,
    /// It is left out.
    Ignore,
}

/// What becomes of fields that have no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Valueless {
    /// They are left out.
    Ignore,
    /// They stay.
    Keep,
}

/// An address that may hold a password: shown, logged and printed without it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// With its password, for those who connect.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redacted(&self.0), formatter)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address without what is secret in it: the password before the host, and every parameter whose
/// name speaks of one.
fn redacted(url: &str) -> String {
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (url, None),
    };
    let mut shown = match base.split_once("://") {
        // The last @, since a password may have been written with one.
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
                // NATS takes a token there.
                None if scheme == "nats" || scheme == "tls" => format!("{scheme}://***@{host}"),
                None => base.to_owned(),
            },
            None => base.to_owned(),
        },
        None => base.to_owned(),
    };
    if let Some(query) = query {
        let parameters = query.split('&').map(|parameter| {
            let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
            let lower = name.to_ascii_lowercase();
            let secret = ["pass", "secret", "token", "key"];
            match secret.iter().any(|word| lower.contains(word)) {
                true => format!("{name}=***"),
                false => parameter.to_owned(),
            }
        });
        shown.push('?');
        shown.push_str(&parameters.collect::<Vec<_>>().join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_wherever_it_stands() {
        for (url, shown) in [
            (
                "postgres://relay:s3cret@db:5432/shop",
                "postgres://relay:***@db:5432/shop",
            ),
            (
                "postgres://relay:s3c:r@et@db/shop",
                "postgres://relay:***@db/shop",
            ),
            (
                "postgres://relay@db/shop?password=s3cret&sslmode=require",
                "postgres://relay@db/shop?password=***&sslmode=require",
            ),
            (
                "kafka://h:9092?sasl.password=s3cret",
                "kafka://h:9092?sasl.password=***",
            ),
            ("nats://s3cret@host", "nats://***@host"),
            ("sqlite:///var/lib/shop.db", "sqlite:///var/lib/shop.db"),
            ("embedded", "embedded"),
        ] {
            let secret = SecretUrl::from(url);
            assert_eq!(secret.to_string(), shown);
            assert!(!format!("{secret:?}").contains("s3c"), "{secret:?}");
            assert!(!serde_json::to_string(&secret).unwrap().contains("s3c"));
            assert_eq!(secret.expose(), url);
        }
    }
}
