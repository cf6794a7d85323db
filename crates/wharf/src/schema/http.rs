//! Confluent's REST API, as far as a service needs it.
//!
//! Answers are bounded, and so is the time for one. What is no answer of a registry (a refused
//! connection, a 5xx) may be over soon; what a registry refuses stays refused.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;
use wharf_schema::Dependency;
use wharf_schema::model::{Reference, SchemaType};
use wharf_schema::wire::SchemaId;

use super::SchemaError;
use super::store::{Kept, Named, Sent, Store};

const JSON: &str = "application/vnd.schemaregistry.v1+json";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How many schemas one refers to at most, directly or not.
const DEPENDENCIES_MAX: usize = 1_000;

/// A registry behind an address.
pub(super) struct Http {
    base: Url,
    client: reqwest::Client,
}

/// What a registry says of a schema.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    id: Option<i32>,
    guid: Option<String>,
    subject: Option<String>,
    version: Option<i32>,
    #[serde(default)]
    schema_type: Option<SchemaType>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    schema: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error_code: i64,
    message: String,
}

impl Http {
    pub(super) fn new(address: &str) -> Result<Self, SchemaError> {
        let wrong = |why: String| SchemaError::Refused {
            what: "the address".to_owned(),
            why,
        };
        let mut base = Url::parse(address).map_err(|error| wrong(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong(
                "an address begins with http://host or https://host".to_owned(),
            ));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE);
        let client = client.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { base, client })
    }

    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        parts: &[&str],
        body: Option<Value>,
    ) -> Result<T, SchemaError> {
        let unreachable = |error: reqwest::Error| SchemaError::Unreachable {
            what: what.to_owned(),
            why: error.without_url().to_string(),
        };
        let mut request = self.client.request(method, self.url(parts));
        request = request.header("Accept", JSON);
        if let Some(body) = body {
            request = request.header("Content-Type", JSON).body(body.to_string());
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(SchemaError::Refused {
                    what: what.to_owned(),
                    why: format!("the answer has more than {ANSWER_BYTES_MAX} bytes"),
                });
            }
            answer.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| SchemaError::Refused {
                what: what.to_owned(),
                why: format!("the answer is none of a registry: {error}"),
            });
        }
        let why = match serde_json::from_slice::<Refusal>(&answer) {
            Ok(Refusal {
                error_code,
                message,
            }) => format!("{message} ({error_code})"),
            Err(_no_refusal) => format!("HTTP {status}"),
        };
        let what = what.to_owned();
        match status.is_server_error() || status.as_u16() == 429 {
            true => Err(SchemaError::Unreachable { what, why }),
            false => Err(SchemaError::Refused { what, why }),
        }
    }

    async fn look(&self, subject: &str, sent: &Sent) -> Result<Named, SchemaError> {
        let what = format!("a version of {subject}");
        let parts = ["subjects", subject];
        let said: Said = self
            .ask(&what, Method::POST, &parts, Some(body(sent)))
            .await?;
        named(&what, &said)
    }

    async fn send(&self, subject: &str, sent: &Sent) -> Result<Named, SchemaError> {
        let what = format!("a version of {subject}");
        let parts = ["subjects", subject, "versions"];
        let said: Said = self
            .ask(&what, Method::POST, &parts, Some(body(sent)))
            .await?;
        // Older registries say the id alone.
        match said.version {
            Some(_) => named(&what, &said),
            None => self.look(subject, sent).await,
        }
    }

    async fn kept(&self, id: SchemaId) -> Result<Kept, SchemaError> {
        let what = format!("the schema of {id}");
        let (kind, name) = match id {
            SchemaId::Id(id) => ("ids", id.to_string()),
            SchemaId::Guid(guid) => ("guids", guid.to_string()),
        };
        let said: Said = self
            .ask(&what, Method::GET, &["schemas", kind, &name], None)
            .await?;
        let references = said.references.unwrap_or_default();
        let text = said.schema.ok_or_else(|| SchemaError::Refused {
            what: what.clone(),
            why: "the answer has no schema".to_owned(),
        })?;
        Ok(Kept {
            kind: said.schema_type.unwrap_or_default(),
            text,
            dependencies: self.gather(&what, references).await?,
            place: said.subject.zip(said.version),
        })
    }

    /// What is referred to, each after what it refers to itself. Without recursion: `open` holds what
    /// is to be gathered, and again what waits for what it refers to.
    async fn gather(
        &self,
        what: &str,
        references: Vec<Reference>,
    ) -> Result<Vec<Dependency>, SchemaError> {
        let mut gathered: Vec<Dependency> = Vec::new();
        let mut asked = 0;
        let mut open: Vec<(Reference, Option<String>)> = Vec::new();
        open.extend(references.into_iter().rev().map(|found| (found, None)));
        while let Some((reference, text)) = open.pop() {
            let is_known = |known: &Dependency| known.name == reference.name;
            if gathered.iter().any(is_known) {
                continue;
            }
            if let Some(text) = text {
                let name = reference.name;
                gathered.push(Dependency { name, text });
                continue;
            }
            asked += 1;
            if asked > DEPENDENCIES_MAX {
                return Err(SchemaError::Refused {
                    what: what.to_owned(),
                    why: "it refers to too many schemas".to_owned(),
                });
            }
            let version = reference.version.to_string();
            let parts = ["subjects", &reference.subject, "versions", &version];
            let said: Said = self.ask(what, Method::GET, &parts, None).await?;
            open.push((reference, Some(said.schema.unwrap_or_default())));
            let inner = said.references.unwrap_or_default().into_iter().rev();
            open.extend(inner.map(|found| (found, None)));
        }
        Ok(gathered)
    }
}

fn body(sent: &Sent) -> Value {
    let mut body = json!({ "schema": sent.text });
    if !sent.kind.is_avro() {
        body["schemaType"] = json!(sent.kind);
    }
    if !sent.references.is_empty() {
        body["references"] = json!(sent.references);
    }
    body
}

fn named(what: &str, said: &Said) -> Result<Named, SchemaError> {
    let (Some(id), Some(version)) = (said.id, said.version) else {
        return Err(SchemaError::Refused {
            what: what.to_owned(),
            why: "the answer has no id or no version".to_owned(),
        });
    };
    let guid = said
        .guid
        .as_deref()
        .and_then(|guid| Uuid::parse_str(guid).ok());
    Ok(Named { id, guid, version })
}

impl Store for Http {
    fn register<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>> {
        Box::pin(self.send(subject, sent))
    }

    fn find<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>> {
        Box::pin(self.look(subject, sent))
    }

    fn get(&self, id: SchemaId) -> BoxFuture<'_, Result<Kept, SchemaError>> {
        Box::pin(self.kept(id))
    }
}

impl fmt::Debug for Http {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.base.host_str().unwrap_or_default();
        formatter.debug_tuple("Http").field(&host).finish()
    }
}
