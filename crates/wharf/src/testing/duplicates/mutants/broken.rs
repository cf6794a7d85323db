//! Consumers that are not idempotent, each in one of the ways that are common.

use serde_json::json;

use super::{Input, NOT, Specimen, World, within};

/// What an inbox remembers; not among the effects.
const INBOX: &str = "remembered";
/// What is forgotten when the window passes.
const BRIEFLY: &str = "remembered for a time";

pub(super) fn all() -> Vec<Specimen> {
    macro_rules! specimens {
        ($($name:ident is $verdict:expr, by $($minimal:literal)|+;)*) => {
            vec![$(Specimen {
                name: stringify!($name),
                verdict: $verdict,
                minimal: &[$($minimal),+],
                handle: |world, input| Box::pin($name(world, input)),
            }),*]
        };
    }
    specimens! {
        remembers_nothing is NOT, by "1 1";
        remembers_in_memory is NOT, by "1 restart 1" | "1x 1";
        remembers_after_the_effects is NOT, by "1x5 1" | "1x6 1" | "1x7 1" | "1=";
        remembers_before_the_effects is NOT, by "1x5 1";
        knows_by_position is NOT, by "1 1+";
        knows_by_time is NOT, by "1 1+";
        knows_by_id_without_source is NOT, by "ids-apart: 1 2";
        knows_by_payload is NOT, by "payloads-apart: 1 2";
        remembers_the_last_three is within(2), by "1 2 3 4 1" | "2 1 3 4 2";
        remembers_for_a_time is within(8), by "1 later 1";
        counts_deliveries is NOT, by "1 1";
        publishes_with_new_ids is NOT, by "1 1";
        calls_with_new_keys is NOT, by "1 1";
        last_writer_wins is NOT, by "1 2 1";
        checks_then_inserts is NOT, by "1=";
        has_one_mark_for_all_keys is NOT, by "2 1";
        resurrects_what_was_deleted is NOT, by "1 2 1";
        toggles is NOT, by "1 1";
        appends is NOT, by "1 1";
        publishes_only_the_first_time is NOT, by "1x5 1" | "1x6 1" | "1x7 1";
    }
}

async fn remembers_nothing(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    transaction
        .add("balances", &input.account, input.amount)
        .await;
    transaction.commit().await;
    Ok(())
}

async fn remembers_in_memory(world: World, input: Input) -> Result<(), String> {
    if world.is_new_to_memory(&input.identity) {
        remembers_nothing(world, input).await?;
    }
    Ok(())
}

async fn remembers_after_the_effects(world: World, input: Input) -> Result<(), String> {
    if world.database.get(INBOX, &input.identity).await.is_some() {
        return Ok(());
    }
    remembers_nothing(world.clone(), input.clone()).await?;
    world.database.put(INBOX, &input.identity, json!(1)).await;
    Ok(())
}

async fn remembers_before_the_effects(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    let is_new = transaction.insert(INBOX, &input.identity, json!(1)).await;
    transaction.commit().await;
    if is_new {
        remembers_nothing(world, input).await?;
    }
    Ok(())
}

/// An inbox as it should be, but for the key.
async fn inbox_by(world: World, input: Input, key: &str) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if transaction.insert(INBOX, key, json!(1)).await {
        transaction
            .add("balances", &input.account, input.amount)
            .await;
        transaction.commit().await;
    }
    Ok(())
}

async fn knows_by_position(world: World, input: Input) -> Result<(), String> {
    let key = input.position.clone();
    inbox_by(world, input, &key).await
}

async fn knows_by_time(world: World, input: Input) -> Result<(), String> {
    let key = input.time.clone();
    inbox_by(world, input, &key).await
}

async fn knows_by_id_without_source(world: World, input: Input) -> Result<(), String> {
    let key = input.id.clone();
    inbox_by(world, input, &key).await
}

async fn knows_by_payload(world: World, input: Input) -> Result<(), String> {
    let key = input.payload.clone();
    inbox_by(world, input, &key).await
}

async fn remembers_the_last_three(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    let last = transaction.get(INBOX, "last").await.unwrap_or(json!([]));
    let mut last: Vec<String> = serde_json::from_value(last).unwrap();
    if last.contains(&input.identity) {
        return Ok(());
    }
    last.push(input.identity);
    if last.len() > 3 {
        last.remove(0);
    }
    transaction.put(INBOX, "last", json!(last)).await;
    transaction
        .add("balances", &input.account, input.amount)
        .await;
    transaction.commit().await;
    Ok(())
}

async fn remembers_for_a_time(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if transaction.insert(BRIEFLY, &input.identity, json!(1)).await {
        transaction
            .add("balances", &input.account, input.amount)
            .await;
        transaction.commit().await;
    }
    Ok(())
}

async fn counts_deliveries(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    transaction
        .put("deposits", &input.identity, json!(input.amount))
        .await;
    transaction.add("statistics", "deposits", 1).await;
    transaction.commit().await;
    Ok(())
}

async fn publishes_with_new_ids(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("deposits", &input.identity, json!(input.amount))
        .await;
    world.publish(&world.new_id(), &input);
    Ok(())
}

async fn calls_with_new_keys(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("deposits", &input.identity, json!(input.amount))
        .await;
    let key = world.new_id();
    world.sent.called(
        "POST",
        "/ledger",
        json!({"amount": input.amount}),
        Some(&key),
    );
    Ok(())
}

async fn last_writer_wins(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("latest", &input.account, json!(input.amount))
        .await;
    Ok(())
}

async fn checks_then_inserts(world: World, input: Input) -> Result<(), String> {
    if world.database.get(INBOX, &input.identity).await.is_some() {
        return Ok(());
    }
    let mut transaction = world.database.begin().await;
    transaction.put(INBOX, &input.identity, json!(1)).await;
    transaction
        .add("balances", &input.account, input.amount)
        .await;
    transaction.commit().await;
    Ok(())
}

async fn has_one_mark_for_all_keys(world: World, input: Input) -> Result<(), String> {
    let (source, number) = input.identity.split_once('/').unwrap();
    let number: i64 = number.trim_end_matches("-apart-1").parse().unwrap();
    let mut transaction = world.database.begin().await;
    let mark = transaction
        .get(INBOX, source)
        .await
        .and_then(|mark| mark.as_i64());
    if mark.is_none_or(|mark| number > mark) {
        transaction.put(INBOX, source, json!(number)).await;
        transaction
            .add("balances", &input.account, input.amount)
            .await;
        transaction.commit().await;
    }
    Ok(())
}

async fn resurrects_what_was_deleted(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if input.amount == 0 {
        transaction.delete("accounts", &input.account).await;
    } else {
        transaction
            .insert("accounts", &input.account, json!("open"))
            .await;
    }
    transaction.commit().await;
    Ok(())
}

async fn toggles(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    let is_on = transaction.get("switches", &input.identity).await == Some(json!(true));
    transaction
        .put("switches", &input.identity, json!(!is_on))
        .await;
    transaction.commit().await;
    Ok(())
}

async fn appends(world: World, input: Input) -> Result<(), String> {
    world
        .database
        .put("log", &world.new_id(), json!(input.amount))
        .await;
    Ok(())
}

async fn publishes_only_the_first_time(world: World, input: Input) -> Result<(), String> {
    let mut transaction = world.database.begin().await;
    if transaction.insert(INBOX, &input.identity, json!(1)).await {
        transaction
            .add("balances", &input.account, input.amount)
            .await;
        transaction.commit().await;
        tokio::task::yield_now().await;
        world.publish(&input.identity, &input);
    }
    Ok(())
}
