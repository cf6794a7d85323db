//! Claim checks in routes: a layer that fetches payloads before the handler runs, and the extractor
//! [`Blob`] for handlers that read them as they come.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use super::{Blob, ClaimError, Claims, Reference};
use crate::extract::{FromIncoming, Takes};
use crate::failure::{Failed, IntoFailed};
use crate::incoming::{Incoming, Received};
use crate::outcome::Outcome;

impl Claims {
    /// A layer for routes whose handlers take whole payloads (`Msg`, `Batch`, `Raw`): it fetches what is
    /// in object storage, so that they see no difference. What is retried or set aside is the message as
    /// it came, with its reference.
    ///
    /// ```
    /// use wharf::claim::{Claims, ObjectBlobs};
    /// use wharf::{Raw, Router, group};
    ///
    /// async fn index(Raw(_message): Raw) {}
    ///
    /// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
    /// let archive = group("archive").on(index).layer(claims.layer());
    /// let router: Router = Router::new().topic("scans", archive);
    /// # Ok::<(), wharf::claim::InvalidClaims>(())
    /// ```
    pub fn layer(&self) -> ClaimLayer {
        ClaimLayer {
            claims: self.clone(),
            streamed: false,
        }
    }

    /// A layer for routes whose handlers take a [`Blob`]: it opens what is in object storage, and the
    /// handler reads it as it comes.
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    /// use wharf::claim::{Blob, Claims, ObjectBlobs};
    /// use wharf::{Router, group};
    ///
    /// async fn index(scan: Blob) -> Result<(), wharf::Error> {
    ///     let mut first = [0; 4];
    ///     scan.into_reader().read_exact(&mut first).await?;
    ///     Ok(())
    /// }
    ///
    /// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
    /// let archive = group("archive").on(index).layer(claims.streamed());
    /// let router: Router = Router::new().topic("scans", archive);
    /// # Ok::<(), wharf::claim::InvalidClaims>(())
    /// ```
    pub fn streamed(&self) -> ClaimLayer {
        ClaimLayer {
            claims: self.clone(),
            streamed: true,
        }
    }
}

/// See [`Claims::layer`] and [`Claims::streamed`].
#[derive(Clone, Debug)]
pub struct ClaimLayer {
    claims: Claims,
    streamed: bool,
}

impl<S> Layer<S> for ClaimLayer {
    type Service = ClaimService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClaimService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Handlers behind a [`ClaimLayer`].
#[derive(Clone, Debug)]
pub struct ClaimService<S> {
    inner: S,
    layer: ClaimLayer,
}

impl<S> Service<Incoming> for ClaimService<S>
where
    S: Service<Incoming, Response = Outcome> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Outcome;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Outcome, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        let next = self.inner.clone();
        // The one that is ready is the one that is called.
        let mut ready = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        async move {
            match layer.fetch(incoming).await {
                Ok(incoming) => ready.call(incoming).await,
                Err(error) => Ok(Outcome::Failed(error.into_failed())),
            }
        }
        .boxed()
    }
}

impl ClaimLayer {
    async fn fetch(&self, mut incoming: Incoming) -> Result<Incoming, ClaimError> {
        if self.streamed {
            let blob = self.claims.open(&incoming.first().message).await?;
            incoming.extensions().insert(blob);
            return Ok(incoming);
        }
        let mut received: Vec<Received> = Vec::with_capacity(incoming.all().len());
        for one in incoming.all() {
            let message = self.claims.check_out(one.message.clone()).await?;
            received.push(Received {
                message,
                ..one.clone()
            });
        }
        Ok(incoming.with_received(Arc::from(received)))
    }
}

/// The payload, wherever it is, with the layer [`Claims::streamed`]. It takes messages of every type.
impl<S> FromIncoming<S> for Blob {
    const TAKES: Takes = Takes::Any;

    fn from_incoming(mut incoming: Incoming, _: &S) -> Result<Self, Failed> {
        if let Some(blob) = incoming.extensions().take() {
            return Ok(blob);
        }
        let message = &incoming.first().message;
        match Reference::of(message) {
            Ok(None) => Ok(Self::inline(message.payload.clone().unwrap_or_default())),
            Ok(Some(reference)) => {
                let what = format!(
                    "the store {:?} (add the layer `Claims::streamed`)",
                    reference.store
                );
                Err(ClaimError::UnknownStore(what).into_failed())
            }
            Err(error) => Err(error.into_failed()),
        }
    }
}

impl IntoFailed for ClaimError {
    /// Set aside with its own reason, or tried again.
    fn into_failed(self) -> Failed {
        match self.reason() {
            Some(reason) => Failed::for_ever(reason, self),
            None => Failed::for_now(wharf_message::dead_letter::Reason::RetriesExhausted, self),
        }
    }
}
