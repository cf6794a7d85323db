//! Telling an address outside of what happened: a POST of JSON each, one after the other.
//!
//! A post is tried again for a while and then given up; what waits is bounded. Neither an address
//! that hangs nor one that is gone ever holds up whoever tells: what is told is a record before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::config::SecretUrl;
use crate::flag::raised;

/// How many posts may wait.
const WAITING_MAX: usize = 1_024;
/// How often one is tried, and the pause after the first time; each later one is twice as long.
const ATTEMPTS_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_millis(200);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a post.
#[derive(Debug)]
pub(crate) enum Fate {
    Sent,
    /// It was given up, for this reason.
    Failed(String),
    /// Too many waited.
    Dropped,
}

type Told = Arc<dyn Fn(Fate) + Send + Sync>;

/// What posts are handed to.
#[derive(Clone)]
pub(crate) struct Webhook {
    waiting: Sender<Vec<u8>>,
    told: Told,
}

impl Webhook {
    /// Posts to `url` until `stop` is raised; `told` hears of each post. Fails when the address is
    /// none.
    pub(crate) fn start(
        url: &SecretUrl,
        told: impl Fn(Fate) + Send + Sync + 'static,
        stop: watch::Receiver<bool>,
    ) -> Result<(Self, JoinHandle<()>), String> {
        let url = Url::parse(url.expose()).map_err(|error| error.to_string())?;
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PATIENCE).redirect(Policy::none());
        let client = client.build().map_err(|error| error.to_string())?;
        let told: Told = Arc::new(told);
        let (waiting, posts) = channel(WAITING_MAX);
        let poster = Poster {
            url,
            client,
            posts,
            told: Arc::clone(&told),
        };
        let task = tokio::spawn(poster.run(stop));
        Ok((Self { waiting, told }, task))
    }

    /// Posts a document, as soon as those before it are posted or given up.
    pub(crate) fn tell(&self, document: Vec<u8>) {
        if self.waiting.try_send(document).is_err() {
            (self.told)(Fate::Dropped);
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a secret.
        let free = self.waiting.capacity();
        write!(formatter, "a webhook with room for {free} more posts")
    }
}

struct Poster {
    url: Url,
    client: Client,
    posts: Receiver<Vec<u8>>,
    told: Told,
}

impl Poster {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let document = tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                Some(document) = self.posts.recv() => document,
                else => return,
            };
            tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                fate = self.post(document) => (self.told)(fate),
            }
        }
    }

    async fn post(&self, document: Vec<u8>) -> Fate {
        let mut reason = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
            }
            let request = self.client.post(self.url.clone());
            let request = request.header("content-type", "application/json");
            match request.body(document.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return Fate::Sent,
                // It has seen it and does not want it.
                Ok(answer) if answer.status().is_client_error() && answer.status() != 429 => {
                    return Fate::Failed(format!("it answered {}", answer.status()));
                }
                Ok(answer) => reason = format!("it answered {}", answer.status()),
                // Without the address, which may hold a secret.
                Err(error) => reason = error.without_url().to_string(),
            }
        }
        Fate::Failed(reason)
    }
}
