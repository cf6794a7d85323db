//! Those who do the work: each with a ledger of what it did, by idempotency key, and accounts.
//!
//! A participant does what docs/specs/saga.md asks of one: an effect happens once for each key, what
//! was undone is not done any more, and a command that is older than one it had is not done. What a
//! worker does with its answer (keeps it, repeats it, loses it) is the simulation's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::definitions::Transfer;
use super::sabotage::Sabotage;
use super::watch::Sent;

/// How many accounts there are.
pub(super) const ACCOUNTS: u64 = 4;

/// What a worker is about to do, unless its ledger knows better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Will {
    Do,
    /// It cannot be done, and nothing was.
    Decline,
    /// It breaks, before or after the effect.
    BreakBefore,
    BreakAfter,
}

/// What a worker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Done,
    Declined,
    Broke,
    Alive,
    Accepted,
}

#[derive(Debug, Default)]
struct Effect {
    applied: u32,
    undone: u32,
    /// Its undo came; it must not be done any more.
    closed: bool,
    /// The newest command that came, and whether it was declined.
    newest: u32,
    declined: bool,
    /// What it moved.
    moved: Option<(String, i64)>,
}

/// All participants.
#[derive(Debug, Default)]
pub(super) struct Participants {
    effects: BTreeMap<String, Effect>,
    balances: BTreeMap<String, i64>,
    sabotage: Option<Sabotage>,
    pub(super) done: u64,
    pub(super) undone: u64,
    pub(super) repeated: u64,
    pub(super) outdated: u64,
    pub(super) refused: u64,
}

impl Participants {
    pub(super) fn new(sabotage: Option<Sabotage>) -> Self {
        Self {
            sabotage,
            ..Self::default()
        }
    }

    /// How often an effect happened, and was undone.
    pub(super) fn effect(&self, key: &str) -> (u32, u32) {
        let effect = self.effects.get(key);
        effect.map_or((0, 0), |effect| (effect.applied, effect.undone))
    }

    /// By how much every account changed.
    pub(super) fn balances(&self) -> &BTreeMap<String, i64> {
        &self.balances
    }

    /// Does what a command says; `None` when the command is older than one that came before.
    pub(super) fn handle(&mut self, sent: &Sent, will: Will) -> Option<Said> {
        let key = sent.key.strip_suffix("/undo").unwrap_or(&sent.key);
        let effect = self.effects.entry(key.to_owned()).or_default();
        if sent.generation < effect.newest {
            self.outdated += 1;
            return None;
        }
        if sent.generation > effect.newest {
            (effect.newest, effect.declined) = (sent.generation, false);
        }
        if sent.undo {
            effect.closed = true;
            return Some(match will {
                Will::BreakBefore => Said::Broke,
                Will::Decline if effect.applied > effect.undone => Said::Declined,
                Will::Do | Will::Decline | Will::BreakAfter => {
                    self.undo(key);
                    match will {
                        Will::BreakAfter => Said::Broke,
                        _ => Said::Done,
                    }
                }
            });
        }
        let repeats = self.sabotage == Some(Sabotage::RepeatedEffects);
        if effect.applied > 0 && !effect.closed && !repeats {
            self.repeated += 1;
            return Some(Said::Done);
        }
        if effect.closed || effect.declined {
            self.refused += 1;
            return Some(Said::Declined);
        }
        match will {
            Will::BreakBefore => Some(Said::Broke),
            Will::Decline => {
                effect.declined = true;
                Some(Said::Declined)
            }
            Will::Do | Will::BreakAfter => {
                self.apply(key, &sent.name, &sent.arguments);
                let broke = will == Will::BreakAfter;
                Some(if broke { Said::Broke } else { Said::Done })
            }
        }
    }

    fn apply(&mut self, key: &str, name: &str, arguments: &Value) {
        let moved = Transfer::read(arguments).and_then(|transfer| match name {
            "Withdraw" => Some((transfer.from, -transfer.amount)),
            "Deposit" => Some((transfer.to, transfer.amount)),
            _ => None,
        });
        let effect = self.effects.entry(key.to_owned()).or_default();
        effect.applied += 1;
        if let Some((account, amount)) = &moved {
            *self.balances.entry(account.clone()).or_default() += amount;
        }
        effect.moved = moved;
        self.done += 1;
    }

    fn undo(&mut self, key: &str) {
        let Some(effect) = self.effects.get_mut(key) else {
            return;
        };
        if effect.undone >= effect.applied || self.sabotage == Some(Sabotage::EmptyUndos) {
            return;
        }
        effect.undone += 1;
        if let Some((account, amount)) = &effect.moved {
            let fee = i64::from(self.sabotage == Some(Sabotage::Fees));
            *self.balances.entry(account.clone()).or_default() -= amount - fee;
        }
        self.undone += 1;
    }

    /// A person makes sure that it is done.
    pub(super) fn do_by_hand(&mut self, key: &str, name: &str, arguments: &Value) {
        if self.effect(key).0 == 0 {
            self.apply(key, name, arguments);
        }
    }

    /// A person makes sure that it is not done, and will not be.
    pub(super) fn undo_by_hand(&mut self, key: &str) {
        self.effects.entry(key.to_owned()).or_default().closed = true;
        self.undo(key);
    }
}
