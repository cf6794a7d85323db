//! The cases, by what they show.

mod administration;
mod groups;
mod messages;
mod transactions;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

use crate::client::{Client, Send};

/// A named case of a feature, a row of the table in `compat/README.md`.
pub(crate) struct Case {
    pub(crate) feature: &'static str,
    pub(crate) name: &'static str,
    pub(crate) run: fn(Client) -> LocalBoxFuture<'static, Result<()>>,
}

/// The cases of a module.
macro_rules! cases {
    ($($feature:literal => $name:ident),* $(,)?) => {
        pub(super) const ALL: &[Case] = &[$(Case {
            feature: $feature,
            name: stringify!($name),
            run: |client| Box::pin($name(client)),
        }),*];
    };
}
use cases;

/// All cases.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    let all = [
        messages::ALL,
        groups::ALL,
        transactions::ALL,
        administration::ALL,
    ];
    all.into_iter().flatten()
}

fn numbers(count: usize) -> Vec<Send> {
    (0..count)
        .map(|number| Send::of(format!("{number} {}", "x".repeat(200))))
        .collect()
}
