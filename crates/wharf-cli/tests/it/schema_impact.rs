//! The walk-through of `docs/how-to/schema-break-something.md`: the shop's orders behind their
//! contract, a good change and one that breaks. The report on the latter is a golden file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::refused;
use crate::run::{command, run_in};
use crate::serve::{Served, serve};

/// It has every sentence that the broker says.
const PAGE: &str = include_str!("../../../../docs/how-to/schema-break-something.md");
const TOPIC: &str = "shop.orders";
const SUBJECT: &str = "shop.orders-value";
const INVALID_RECORD: i16 = 87;
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with the shop's schemas, and a node.
struct Shop {
    directory: tempfile::TempDir,
    node: Served,
}

impl Shop {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
        for folder in ["schemas", "schema-changes"] {
            let to = directory.path().join(folder);
            std::fs::create_dir(&to).unwrap();
            for entry in std::fs::read_dir(source.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
        let catalogue = directory.path().join("catalogue.yaml");
        std::fs::copy(source.join("catalogue.yaml"), catalogue).unwrap();
        let node = serve(directory.path(), &["--data", "data"], &[]);
        Self { directory, node }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What a command says, with everything of this run taken out.
    fn run(&self, arguments: &[&str]) -> String {
        let said = run_in(self.path(), &self.with_addresses(arguments));
        let mut words = String::new();
        for word in said.split_inclusive([' ', '\n']) {
            let end = word.trim_end().len();
            let (word, space) = word.split_at(end);
            let is_time = word.len() >= 20 && word.starts_with("20") && word.contains("T");
            words.push_str(if is_time { "TIME" } else { word });
            words.push_str(space);
        }
        words
    }

    fn with_addresses<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let address: [&str; 2] = match arguments {
            ["topic" | "produce", ..] => ["--broker", self.node.text("kafka")],
            ["schema", "impact", ..] => ["--http", self.node.text("http")],
            _ => ["--registry", self.node.text("registry")],
        };
        let mut all = arguments.to_vec();
        all.extend(address);
        all
    }

    /// The schema of a file becomes a version; its id.
    fn register(&self, file: &str, subject: &str) -> i32 {
        let arguments = [
            "schema",
            "register",
            file,
            "--subject",
            subject,
            "-o",
            "json",
        ];
        let arguments = self.with_addresses(&arguments);
        let output = command(self.path()).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        rows[0]["id"].as_i64().unwrap().try_into().unwrap()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.node.text("kafka"));
        config
    }

    /// What `wharf produce` says of one order to partition 0.
    fn produce(&self, key: &str, value: &[u8]) -> String {
        let arguments = [
            "produce",
            TOPIC,
            "--whole",
            "--key",
            key,
            "--partition",
            "0",
        ];
        let mut producer = command(self.path())
            .args(self.with_addresses(&arguments))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        producer.stdin.take().unwrap().write_all(value).unwrap();
        let ended = producer.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        format!("exit: {}\n{said}", ended.status.code().unwrap())
    }

    /// That nothing gets into the topic which is not what the schema `id` says, and what does.
    fn keeps_its_contract(&self, id: i32) {
        let plain = order(1).to_string().into_bytes();
        let mut less = order(1);
        less.as_object_mut().unwrap().remove("total_cents");
        let of_another = framed(id + 1, &order(1));
        for (value, sentence) in [
            (plain, "names no schema"),
            (of_another, "shop.outcomes-shop.order.completed"),
            (framed(id, &less), "total_cents"),
        ] {
            let said = self.produce("o-1", &value);
            assert!(said.starts_with("exit: 3"), "{said}");
            assert!(said.contains("WHARF-6010"), "{said}");
            let (code, why) = refused::produce(self.node.text("kafka"), TOPIC, &value);
            assert_eq!((code, why.len()), (INVALID_RECORD, 1), "{why:?}");
            assert!(why[0].contains(sentence), "{why:?}");
            assert!(PAGE.contains(&why[0]), "{why:?}");
        }
        let said = self.produce("o-1", &framed(id, &order(1)));
        assert_eq!(said, "exit: 0\n1 messages acknowledged\n");
    }

    /// Writes orders with these numbers that name a schema, to both partitions in turn.
    fn write(&self, id: i32, numbers: std::ops::RangeInclusive<i32>) -> bool {
        let producer: BaseProducer = self.client().create().unwrap();
        for number in numbers {
            let (key, payload) = (format!("o-{number}"), framed(id, &order(number)));
            let record = BaseRecord::to(TOPIC).key(&key).payload(&payload);
            producer.send(record.partition((number + 1) % 2)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        producer.in_flight_count() == 0
    }

    /// A group that has come so far in the two partitions; with a member, if it has a client's name.
    fn group(&self, name: &str, client: Option<&str>, offsets: [i64; 2]) -> BaseConsumer {
        let mut config = self.client();
        config
            .set("group.id", name)
            .set("enable.auto.commit", "false");
        config.set("client.id", client.unwrap_or("rdkafka"));
        let consumer: BaseConsumer = config.create().unwrap();
        if client.is_some() {
            consumer.subscribe(&[TOPIC]).unwrap();
            let deadline = Instant::now() + PATIENCE;
            while consumer.assignment().unwrap().count() < 2 {
                assert!(Instant::now() < deadline, "{name} was assigned nothing");
                drop(consumer.poll(Duration::from_millis(50)));
            }
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(offsets) {
            list.add_partition_offset(TOPIC, partition, Offset::Offset(offset))
                .unwrap();
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
        consumer
    }
}

/// An order with its schema named before it.
fn framed(id: i32, order: &serde_json::Value) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&id.to_be_bytes());
    payload.extend_from_slice(order.to_string().as_bytes());
    payload
}

fn order(number: i32) -> serde_json::Value {
    serde_json::json!({
        "order": format!("o-{number}"),
        "customer": "c-7",
        "card": "4711",
        "lines": [{"sku": "tea", "quantity": 2, "price_cents": 350}],
        "total_cents": 700,
    })
}

fn schemas(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("schemas")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The same evidence gives the same bytes, without a node.
fn repeats_from_evidence(shop: &Shop, question: &[&str]) {
    let kept = [
        question,
        &["--save-evidence", "evidence.json", "-o", "json"],
    ]
    .concat();
    shop.run(&kept);
    let again = [
        "schema",
        "impact",
        "--evidence",
        "evidence.json",
        "-o",
        "json",
    ];
    let twice = [run_in(shop.path(), &again), run_in(shop.path(), &again)];
    assert!(twice[0].starts_with("exit: 1"), "{}", twice[0]);
    assert_eq!(twice[0], twice[1]);
    for format in [
        "text", "markdown", "sarif", "github", "junit", "yaml", "jsonl",
    ] {
        let again = [
            "schema",
            "impact",
            "--evidence",
            "evidence.json",
            "-o",
            format,
        ];
        let said = run_in(shop.path(), &again);
        assert!(said.contains("audit-export"), "{format}: {said}");
    }
}

#[test]
fn the_report_on_the_shops_breaking_change_names_who_breaks() {
    let shop = Shop::open();
    let mut first = 0;
    for file in schemas(shop.path()) {
        let subject = file.file_stem().unwrap().to_str().unwrap();
        let id = shop.register(file.to_str().unwrap(), subject);
        if subject == SUBJECT {
            first = id;
        }
    }
    let created = shop.run(&[
        "topic",
        "create",
        TOPIC,
        "--partitions",
        "2",
        "--set",
        "wharf.schema.validation=reject",
        "--set",
        "wharf.schema.validation.depth=payload",
    ]);
    assert!(created.starts_with("exit: 0"), "{created}");
    shop.keeps_its_contract(first);
    assert!(shop.write(first, 2..=6));
    let grown = [
        "schema",
        "impact",
        "schema-changes/grown.json",
        "--subject",
        SUBJECT,
        "--catalogue",
        "catalogue.yaml",
    ];
    let before = shop.run(&grown);
    assert!(before.starts_with("exit: 0"), "{before}");
    assert!(before.contains("consumers first: "), "{before}");
    assert!(before.contains("inventory: not affected"), "{before}");
    let second = shop.register("schema-changes/grown.json", SUBJECT);
    assert!(shop.write(second, 7..=10));
    let _inventory = shop.group("inventory", Some("inventory-1"), [5, 5]);
    let _picking = shop.group("picking-list", None, [5, 4]);
    // Nobody wrote this one down.
    let _audit = shop.group("audit-export", Some("nightly-export"), [2, 1]);

    let said = shop.run(&grown);
    assert!(said.starts_with("exit: 0"), "{said}");

    let mut breaking = grown;
    breaking[2] = "schema-changes/breaking.json";
    let report = shop.run(&breaking);
    assert!(report.starts_with("exit: 1"), "{report}");
    assert_snapshot!("the_shops_breaking_change", report);

    repeats_from_evidence(&shop, &breaking);

    // And the registry refuses it.
    let refused = shop.run(&["schema", "register", breaking[2], "--subject", SUBJECT]);
    assert!(refused.starts_with("exit: 3"), "{refused}");
    assert!(refused.contains("40901"), "{refused}");
    let checked = shop.run(&["schema", "check", breaking[2], "--subject", SUBJECT]);
    assert!(checked.starts_with("exit: 1"), "{checked}");
}
