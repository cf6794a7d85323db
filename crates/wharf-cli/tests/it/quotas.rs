//! `wharf quota` against a running node.

use serde_json::json;

use crate::commands::Shell;
use crate::run::run;

#[test]
fn quotas_are_set_listed_and_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    let diary = shell.diary(&[
        "quota list",
        "quota set consumer_byte_rate=1024",
        "quota set --client-id reports consumer_byte_rate=fast",
        "quota set --client-id reports consumer_byte_rate=-1",
        "quota set --client-id reports nonsense=1",
        "quota set --ip 10.0.0.7 --user alice connection_creation_rate=5",
        "quota set --client-id reports consumer_byte_rate=1024 --dry-run",
        "quota list",
        "quota set --client-id reports consumer_byte_rate=1024 producer_byte_rate=2048",
        "quota set --default-user request_percentage=12.5",
        "quota set --user alice --client-id reports producer_byte_rate=10",
        "quota set --ip 127.0.0.9 connection_creation_rate=5",
        "quota list",
        "quota list --client-id reports",
        "quota list --default-user -o jsonl",
        "quota delete --client-id reports producer_byte_rate --dry-run",
        "quota delete --client-id reports producer_byte_rate",
        "quota delete --client-id reports producer_byte_rate",
        "quota delete --default-user",
        "quota delete --default-user",
        "quota delete",
        "quota list",
    ]);
    insta::assert_snapshot!(diary);
    let listed = shell.json(&["quota", "list", "--ip", "127.0.0.9"]);
    let expected = json!([{
        "entity": {"ip": "127.0.0.9"}, "quota": "connection_creation_rate", "value": 5.0,
    }]);
    assert_eq!(listed, expected);
}

#[test]
fn the_help_of_quotas_shows_how() {
    let help = run(&["quota", "set", "--help"]);
    insta::assert_snapshot!(help);
}
