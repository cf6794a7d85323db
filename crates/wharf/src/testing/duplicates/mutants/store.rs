//! A database for the consumers under test: what is committed outlives a crash, what is not is gone.
//!
//! Every operation waits once before it happens, so that a crash can fall between any two.
//! Transactions exclude one another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio::task::yield_now;

use crate::testing::duplicates::Effects;

type Tables = BTreeMap<&'static str, BTreeMap<String, Value>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    committed: Arc<Mutex<Tables>>,
    writer: Arc<tokio::sync::Mutex<()>>,
}

impl Database {
    fn committed(&self) -> MutexGuard<'_, Tables> {
        self.committed.lock().unwrap()
    }

    pub(super) async fn begin(&self) -> Transaction {
        yield_now().await;
        let guard = Arc::clone(&self.writer).lock_owned().await;
        let tables = self.committed().clone();
        Transaction {
            database: self.clone(),
            tables,
            _guard: guard,
        }
    }

    /// Reads what is committed.
    pub(super) async fn get(&self, table: &'static str, key: &str) -> Option<Value> {
        yield_now().await;
        self.committed().get(table)?.get(key).cloned()
    }

    /// Writes a row in a transaction of its own.
    pub(super) async fn put(&self, table: &'static str, key: &str, value: Value) {
        let mut transaction = self.begin().await;
        transaction.put(table, key, value).await;
        transaction.commit().await;
    }

    pub(super) fn clear(&self) {
        self.committed().clear();
    }

    pub(super) fn forget(&self, table: &'static str) {
        self.committed().remove(table);
    }

    /// All rows but those of tables that only remember what was seen.
    pub(super) fn effects(&self) -> Effects {
        let mut effects = Effects::new();
        for (table, rows) in self
            .committed()
            .iter()
            .filter(|(table, _)| !table.contains("rememb"))
        {
            for (key, value) in rows {
                effects.push_row(table, json!({ "key": key, "value": value }));
            }
        }
        effects
    }
}

/// Dropped uncommitted, it is rolled back.
#[derive(Debug)]
pub(super) struct Transaction {
    database: Database,
    tables: Tables,
    _guard: OwnedMutexGuard<()>,
}

impl Transaction {
    pub(super) async fn get(&self, table: &'static str, key: &str) -> Option<Value> {
        yield_now().await;
        self.tables.get(table)?.get(key).cloned()
    }

    pub(super) async fn put(&mut self, table: &'static str, key: &str, value: Value) {
        yield_now().await;
        self.tables
            .entry(table)
            .or_default()
            .insert(key.to_owned(), value);
    }

    /// Adds a row, unless there is one of that key already.
    pub(super) async fn insert(&mut self, table: &'static str, key: &str, value: Value) -> bool {
        let is_new = self.get(table, key).await.is_none();
        if is_new {
            self.put(table, key, value).await;
        }
        is_new
    }

    pub(super) async fn delete(&mut self, table: &'static str, key: &str) {
        yield_now().await;
        self.tables.entry(table).or_default().remove(key);
    }

    /// Adds to a number.
    pub(super) async fn add(&mut self, table: &'static str, key: &str, amount: i64) {
        let sum = self
            .get(table, key)
            .await
            .and_then(|sum| sum.as_i64())
            .unwrap_or(0);
        self.put(table, key, json!(sum + amount)).await;
    }

    pub(super) async fn commit(self) {
        yield_now().await;
        *self.database.committed() = self.tables;
    }
}
