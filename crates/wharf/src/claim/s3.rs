//! S3 and what speaks its protocol. The cryptography is ring's throughout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, RetryConfig};

use super::object::PART;
use super::{ObjectBlobs, StoreError};

/// How an S3 bucket is reached.
///
/// ```no_run
/// use wharf::claim::{ObjectBlobs, S3Settings};
///
/// let store = ObjectBlobs::s3(S3Settings {
///     endpoint: Some("http://127.0.0.1:9000".to_owned()),
///     access_key: Some(("minio".to_owned(), "a secret".to_owned())),
///     ..S3Settings::bucket("payloads")
/// })?;
/// # Ok::<(), wharf::claim::StoreError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The region; `us-east-1` by default.
    pub region: String,
    /// Another address than Amazon's; `http:` is taken as well.
    pub endpoint: Option<String>,
    /// Key id and secret. Without them the credentials come from where Amazon's own clients look, apart
    /// from the environment and files: the web identity or the metadata service of the machine.
    pub access_key: Option<(String, String)>,
    /// How long one request may take: 30 s.
    pub timeout: Duration,
    /// How long a failing request is repeated: 60 s.
    pub retry_for: Duration,
}

impl S3Settings {
    /// A bucket in `us-east-1`, with the defaults.
    pub fn bucket(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            access_key: None,
            timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for S3Settings {
    /// Without the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("S3Settings")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("access_key", &self.access_key.as_ref().map(|(id, _)| id))
            .finish_non_exhaustive()
    }
}

impl ObjectBlobs {
    /// A bucket of S3 or of what speaks its protocol.
    ///
    /// Nothing is sent yet. Give the bucket a lifecycle rule that removes incomplete multipart uploads:
    /// those of a process that died cannot be seen from outside.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn s3(settings: S3Settings) -> Result<Self, StoreError> {
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let options = object_store::ClientOptions::new()
            .with_timeout(settings.timeout)
            .with_allow_http(settings.endpoint.is_some());
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(settings.bucket)
            .with_region(settings.region)
            .with_client_options(options)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 10,
                retry_timeout: settings.retry_for,
            });
        if let Some(endpoint) = settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some((id, secret)) = settings.access_key {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret);
        }
        let store = builder
            .build()
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(Self::new(Arc::new(store), PART))
    }
}
