//! The walk-through of `docs/how-to/saga-walk-through-choreography.md`: the shop with its shipping service
//! stopped for a while, and what the node that watches it says.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::Group;

use crate::run::{command, run_in};
use crate::serve::serve;

const PAGE: &str = include_str!("../../../../docs/how-to/saga-walk-through-choreography.md");
/// Enough for every order, on any machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// A demo at work, whose words go to files.
struct Demo<'a> {
    directory: &'a Path,
    group: Group,
}

impl<'a> Demo<'a> {
    fn open(directory: &'a Path, arguments: &[&str]) -> Self {
        let mut command = command(directory);
        command.arg("demo").args(arguments).stdin(Stdio::null());
        command.stdout(File::create(directory.join("said")).unwrap());
        command.stderr(File::create(directory.join("noted")).unwrap());
        let group = Group::spawn(&mut command).unwrap();
        Self { directory, group }
    }

    fn noted(&self) -> String {
        std::fs::read_to_string(self.directory.join("noted")).unwrap()
    }

    /// What it has noted, once that has `text` in it.
    fn until(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let noted = self.noted();
            if noted.contains(text) {
                return noted;
            }
            let ended = self.group.child().try_wait().unwrap();
            let is_time = begun.elapsed() < PATIENCE && ended.is_none();
            assert!(is_time, "{text:?} should be noted; {ended:?}: {noted}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits for its end; its exit code and what it said.
    fn ends(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        loop {
            if let Some(ended) = self.group.child().try_wait().unwrap() {
                let said = std::fs::read_to_string(self.directory.join("said")).unwrap();
                return (ended.code(), format!("{said}{}", self.noted()));
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it should end: {}",
                self.noted()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap().1;
    rest.split_once(after).unwrap().0
}

#[test]
fn a_stopped_service_makes_orders_stuck_and_its_return_completes_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    // As on the page, in less time.
    let demo = "wharf demo --orders 300 --rate 100 --within 10s --stop shipping --stop-for 1m --keep shop-data";
    assert!(PAGE.contains(demo), "{demo} is not on the page");
    let hurried = demo.replace("10s", "2s").replace("1m", "6s");
    let arguments: Vec<&str> = hurried.split(' ').skip(2).collect();
    let mut demo = Demo::open(directory, &arguments);
    let noted = demo.until("are stuck:");
    let http = between(&noted, "metrics at http://", "/metrics").to_owned();
    let stuck = noted.split_once("are stuck:\n").unwrap().1;
    let id = between(stuck, "  ", ":").to_owned();
    let run = |line: &str, ends_with: i32, has: &[&str]| {
        assert!(PAGE.contains(line), "{line} is not on the page");
        let line = line.replace("ORDER", &id);
        let mut arguments: Vec<&str> = line.split(' ').skip(1).collect();
        arguments.extend(["--http", &http]);
        let said = run_in(directory, &arguments);
        assert!(
            said.starts_with(&format!("exit: {ends_with}\n")),
            "{line}: {said}"
        );
        for text in has {
            assert!(said.contains(text), "{line}: {text} is not in {said}");
        }
        said
    };
    // With the contract: who is stuck, and whose turn it is.
    run("wharf choreography list", 1, &["CONTRACT", "shop"]);
    let listed = run(
        "wharf choreography instances shop --verdict stuck",
        1,
        &[&id],
    );
    assert!(
        listed.contains("shop.parcel.shipped has not come after shop.payment.captured"),
        "{listed}"
    );
    let shown = run(
        "wharf choreography show shop ORDER",
        1,
        &[
            "stuck",
            "the group shipping",
            "shop.checkout.submitted",
            "shop.payment.captured",
        ],
    );
    let whose_turn = "the group shipping never consumed it and is at offset ";
    assert!(
        shown.contains(whose_turn) && PAGE.contains(whose_turn),
        "{shown}"
    );
    // Without it: the same traffic through the lens.
    run(
        "wharf choreography graph",
        0,
        &["flowchart", "shop.stock.reserved", "p50", "p99"],
    );
    run(
        "wharf choreography show --lens ORDER",
        0,
        &["shop.checkout.submitted", "shop.payment.captured"],
    );
    run(
        "wharf choreography instances --limit 20",
        0,
        &["INSTANCE", "shop.checkout.submitted"],
    );
    demo.until("shipping is started again");
    adds_up(demo);
    a_node_that_starts_later_says_the_same(directory);
}

/// Its books and what the node saw agree, as on the page.
fn adds_up(demo: Demo<'_>) {
    let (code, said) = demo.ends();
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "The numbers add up.",
        "ok   orders the node saw completed = completed",
        "ok   orders it sees stuck, half-compensated, duplicated, orphan or diverged = none: 0 = 0",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
        let on_the_page = line.split(": ").next().unwrap();
        assert!(
            PAGE.contains(on_the_page),
            "{on_the_page} is not on the page"
        );
    }
}

/// From the topics alone.
fn a_node_that_starts_later_says_the_same(directory: &Path) {
    let environment = [("WHARF_CHOREOGRAPHY__ENABLED", "true")];
    let node = serve(directory, &["--data", "shop-data/node"], &environment);
    let begun = Instant::now();
    loop {
        let arguments = ["choreography", "list", "--http", node.text("http")];
        let said = run_in(directory, &arguments);
        if said.contains("  yes") {
            assert!(said.starts_with("exit: 0\n"), "{said}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{said}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn a_service_that_no_order_waits_for_cannot_be_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let said = run_in(directory.path(), &["demo", "--stop", "notification"]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
    assert!(
        said.contains("[possible values: order, inventory, payment, shipping]"),
        "{said}"
    );
}
