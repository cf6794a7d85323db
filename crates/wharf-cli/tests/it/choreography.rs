//! `wharf choreography`: the how-to's contract, and a real node that watches the shop's.

use std::path::Path;

use crate::run::run_in;
use crate::serve::serve;

const PAGE: &str = include_str!("../../../../docs/how-to/saga-choreography.md");
const SHOP: &str = include_str!("../../../../examples/shop/choreography.yaml");

/// The first block of this language in the how-to that holds `text`.
fn fenced(language: &str, text: &str) -> &'static str {
    let mut blocks = PAGE.split("```").skip(1).step_by(2);
    let block = blocks.find(|block| block.starts_with(language) && block.contains(text));
    block.unwrap().split_once('\n').unwrap().1
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

#[test]
fn the_how_tos_contract_has_the_problem_that_it_tells() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        "checkout.yaml",
        fenced("yaml", "choreography: checkout"),
    );
    let arguments = ["choreography", "check", "checkout.yaml"];
    let said = run_in(directory.path(), &arguments);
    let told = fenced("\n", "checkout.yaml: /rules");
    assert!(said.starts_with("exit: 1\n"), "{said}");
    assert!(said.contains(told), "{said}");
    write(directory.path(), "shop.yaml", SHOP);
    let said = run_in(directory.path(), &["choreography", "check", "shop.yaml"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = run_in(directory.path(), &["choreography", "check", "none.yaml"]);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    let graph = ["choreography", "graph", "--file", "shop.yaml"];
    let drawn = run_in(directory.path(), &graph);
    assert!(drawn.contains("flowchart"), "{drawn}");
}

#[test]
fn a_contract_is_deployed_to_a_node_shown_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "shop.yaml", SHOP);
    let environment = [("WHARF_CHOREOGRAPHY__ENABLED", "true")];
    let node = serve(directory.path(), &["--data", "data"], &environment);
    let run = |arguments: &[&str], ends_with: i32, has: &[&str]| {
        let all: [&[&str]; 3] = [&["choreography"], arguments, &["--http", node.text("http")]];
        let said = run_in(directory.path(), &all.concat());
        assert!(said.starts_with(&format!("exit: {ends_with}\n")), "{said}");
        for text in has {
            assert!(said.contains(text), "{text} is not in {said}");
        }
    };
    run(
        &["deploy", "shop.yaml", "--dry-run"],
        0,
        &["there is no topic `shop.orders`", "nothing was changed"],
    );
    run(&["show", "shop"], 3, &["there is no such contract"]);
    run(&["deploy", "shop.yaml"], 0, &["shop is watched\n"]);
    run(&["deploy", "shop.yaml"], 0, &["in place of the one before"]);
    run(&["list"], 0, &["CONTRACT", "shop", "SAGA SEEN"]);
    run(&["list", "-o", "json"], 0, &["\"lens\"", "\"trouble\""]);
    run(&["show", "shop"], 0, &[SHOP]);
    let carried = serde_json::to_string(SHOP).unwrap();
    run(&["show", "shop", "-o", "json"], 0, &[&carried]);
    run(&["show", "shop", "4711"], 3, &["there is no such instance"]);
    run(
        &["show", "--lens", "4711"],
        3,
        &["there is no such instance"],
    );
    run(&["graph", "--contract", "shop"], 0, &["flowchart"]);
    run(&["instances", "shop", "--verdict", "stuck"], 0, &[]);
    let wrong = ["instances", "shop", "--verdict", "ill"];
    run(&wrong, 2, &["half-compensated"]);
    run(&["instances"], 0, &["INSTANCE"]);
    run(&["remove", "shop"], 0, &["watched no more"]);
    run(&["remove", "shop"], 3, &["there is no such contract"]);
}
