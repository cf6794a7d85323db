//! Consumers that are idempotent, each in one of the ways there are.

use serde_json::json;

use super::{Input, Specimen, Verdict, World};

const INBOX: &str = "remembered";

pub(super) fn all() -> Vec<Specimen> {
    macro_rules! specimens {
        ($($name:ident)*) => {
            vec![$(Specimen {
                name: stringify!($name),
                verdict: Verdict::Idempotent,
                minimal: &[],
                handle: |world, input| Box::pin($name(world, input)),
            }),*]
        };
    }
    specimens! {
        inbox_row_in_the_transaction
        memory_before_the_inbox
        upsert_by_a_natural_key
        newer_version_only
        high_water_mark_of_each_key
        set_of_accounts
        publishes_with_derived_ids
        outbox_row_in_the_transaction
        calls_with_a_derived_key
        deletes_with_a_tombstone
        keeps_the_largest
        fails_at_first_and_is_tried_again
    }
}

async fn inbox_row_in_the_transaction(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if transaction.insert(INBOX, &input.identity, json!(1)).await {
        transaction
            .add("balances", &input.account, input.amount)
            .await;
        transaction.commit().await;
    }
    Ok(())
}

/// The memory saves a question to the database, and is asked for nothing else.
async fn memory_before_the_inbox(world: World, input: Input) -> Result<(), String> {
    if world.memory.lock().unwrap().contains(&input.identity) {
        return Ok(());
    }
    inbox_row_in_the_transaction(world.clone(), input.clone()).await?;
    world.is_new_to_memory(&input.identity);
    Ok(())
}

async fn upsert_by_a_natural_key(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("deposits", &input.identity, json!(input.amount))
        .await;
    Ok(())
}

async fn newer_version_only(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    let known = transaction.get("latest", &input.account).await;
    let known = known.and_then(|row| row["version"].as_i64()).unwrap_or(0);
    if input.sequence > known {
        let row = json!({"version": input.sequence, "amount": input.amount});
        transaction.put("latest", &input.account, row).await;
        transaction.commit().await;
    }
    Ok(())
}

async fn high_water_mark_of_each_key(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    let mark = transaction
        .get(INBOX, &input.account)
        .await
        .and_then(|mark| mark.as_i64());
    if mark.is_none_or(|mark| input.sequence > mark) {
        transaction
            .put(INBOX, &input.account, json!(input.sequence))
            .await;
        transaction
            .add("balances", &input.account, input.amount)
            .await;
        transaction.commit().await;
    }
    Ok(())
}

async fn set_of_accounts(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("accounts", &input.account, json!("seen"))
        .await;
    Ok(())
}

/// Publishes every time; its receivers know the message by its id.
async fn publishes_with_derived_ids(world: World, input: Input) -> Result<(), String> {
    inbox_row_in_the_transaction(world.clone(), input.clone()).await?;
    tokio::task::yield_now().await;
    world.publish(&format!("credited {}", input.identity), &input);
    Ok(())
}

/// The row's id is a random one, and is not compared.
async fn outbox_row_in_the_transaction(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if transaction.insert(INBOX, &input.identity, json!(1)).await {
        let row = json!({"id": world.new_id(), "account": input.account});
        transaction.put("outbox", &input.identity, row).await;
        transaction.commit().await;
    }
    Ok(())
}

async fn calls_with_a_derived_key(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("deposits", &input.identity, json!(input.amount))
        .await;
    let body = json!({"amount": input.amount});
    world
        .sent
        .called("POST", "/ledger", body, Some(&input.identity));
    tokio::task::yield_now().await;
    Ok(())
}

async fn deletes_with_a_tombstone(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if input.amount == 0 {
        transaction
            .put("accounts", &input.account, json!("closed"))
            .await;
    } else {
        transaction
            .insert("accounts", &input.account, json!("open"))
            .await;
    }
    transaction.commit().await;
    Ok(())
}

async fn keeps_the_largest(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    let largest = transaction
        .get("largest", &input.account)
        .await
        .and_then(|sum| sum.as_i64());
    let larger = largest.map_or(input.amount, |largest| largest.max(input.amount));
    transaction
        .put("largest", &input.account, json!(larger))
        .await;
    transaction.commit().await;
    Ok(())
}

async fn fails_at_first_and_is_tried_again(world: World, input: Input) -> Result<(), String> {
    if world.is_new_to_memory(&format!("tried {}", input.identity)) {
        return Err("the database is busy".to_owned());
    }
    inbox_row_in_the_transaction(world, input).await
}
