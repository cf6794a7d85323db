//! The layers of the configuration, and what is said about each mistake in them.

use std::path::PathBuf;

use wharf_message::Code;
use wharf_server::config::{Config, Limit, Origin, Override, Sources, reference, to_json, to_toml};
use wharf_server::{Problem, config};

struct Setup {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn setup(file: &str) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wharf.toml");
    std::fs::write(&path, file).unwrap();
    Setup {
        directory,
        sources: Sources {
            file: Some(path),
            ..Sources::default()
        },
    }
}

impl Setup {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources
            .environment
            .push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &'static str, value: &str, flag: &'static str) -> Self {
        self.sources.flags.push(Override {
            key,
            value: value.to_owned(),
            flag,
        });
        self
    }

    /// The problem as three lines, with the directory's name taken out.
    fn problem(&self) -> String {
        let Problem {
            code,
            what,
            why,
            fix,
        } = self.sources.load().unwrap_err();
        let text = format!("{}\n{what}\n{why}\n{fix}", code.unwrap());
        text.replace(self.directory.path().to_str().unwrap(), "DIR")
    }
}

#[test]
fn each_layer_wins_over_the_one_before_it_and_says_so() {
    let setup =
        setup("[kafka]\nlisten = \"127.0.0.1:1\"\nconnections-max = 7\nidle-timeout = '1m'\n")
            .variable("WHARF_KAFKA__LISTEN", "127.0.0.1:2")
            .variable("WHARF_KAFKA__CONNECTIONS_MAX", "8")
            .variable("WHARF_TOPICS__AUTO_CREATE", "false")
            .variable("WHARF_LOG", "debug")
            .variable("PATH", "/bin")
            .flag("kafka.listen", "127.0.0.1:3", "--kafka-listen");
    let loaded = setup.sources.load().unwrap();
    assert_eq!(loaded.config.kafka.listen.port, 3);
    assert_eq!(
        *loaded.origin("kafka.listen"),
        Origin::Flag("--kafka-listen")
    );
    assert_eq!(loaded.config.kafka.connections_max, 8);
    let variable = Origin::Variable("WHARF_KAFKA__CONNECTIONS_MAX".to_owned());
    assert_eq!(*loaded.origin("kafka.connections-max"), variable);
    assert_eq!(loaded.config.kafka.idle_timeout.0.as_secs(), 60);
    let path = setup.directory.path().join("wharf.toml");
    assert_eq!(
        *loaded.origin("kafka.idle-timeout"),
        Origin::File { path, line: 4 }
    );
    assert!(!loaded.config.topics.auto_create);
    assert_eq!(loaded.config.http, Config::default().http);
    assert_eq!(*loaded.origin("http.listen"), Origin::Default);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one_and_its_place() {
    insta::assert_snapshot!(setup("[kafka]\n\nlisen = \"127.0.0.1:1\"\n").problem(), @r"
    WHARF-1003
    the configuration has an unknown key `kafka.lisen`
    DIR/wharf.toml:3 sets it, and there is no setting of that name
    did you mean `kafka.listen`? `wharf config reference` lists every setting
    ");
    insta::assert_snapshot!(setup("[kafak]\nlisten = \"127.0.0.1:1\"\n").problem(), @r"
    WHARF-1003
    the configuration has an unknown key `kafak.listen`
    DIR/wharf.toml:2 sets it, and there is no setting of that name
    did you mean `kafka.listen`? `wharf config reference` lists every setting
    ");
    insta::assert_snapshot!(setup("[pigeons]\n").problem(), @r"
    WHARF-1003
    the configuration has an unknown key `pigeons`
    DIR/wharf.toml:1 sets it, and there is no setting of that name
    `wharf config reference` lists every setting
    ");
    insta::assert_snapshot!(setup("listen = 1\n").problem(), @r"
    WHARF-1003
    the configuration has an unknown key `listen`
    DIR/wharf.toml:1 sets it, and there is no setting of that name
    did you mean `registry.listen`? `wharf config reference` lists every setting
    ");
    let setup = setup("").variable("WHARF_GROUPS__SESSION_TIMEOUT_MIM", "1s");
    insta::assert_snapshot!(setup.problem(), @r"
    WHARF-1003
    the configuration has an unknown key `WHARF_GROUPS__SESSION_TIMEOUT_MIM`
    the environment variable WHARF_GROUPS__SESSION_TIMEOUT_MIM sets it, and there is no setting of that name
    did you mean WHARF_GROUPS__SESSION_TIMEOUT_MIN? `wharf config reference` lists every setting
    ");
}

#[test]
fn one_underscore_where_two_belong_is_a_slip_and_not_ignored() {
    let setup = setup("").variable("WHARF_KAFKA_LISTEN", "127.0.0.1:2");
    insta::assert_snapshot!(setup.problem(), @r"
    WHARF-1003
    the configuration has an unknown key `WHARF_KAFKA_LISTEN`
    the environment variable WHARF_KAFKA_LISTEN sets it, and there is no setting of that name
    did you mean WHARF_KAFKA__LISTEN? `wharf config reference` lists every setting
    ");
}

#[test]
fn a_bad_value_says_what_is_expected_and_where_it_stands() {
    for (text, expected) in [
        ("[kafka]\nidle-timeout = 30\n", "idle"),
        ("[log]\ntail-size-max = \"64 parsec\"\n", "tail"),
        ("[kafka]\nconnections-max = \"many\"\n", "connections"),
        ("[topics]\nauto-create = 1\n", "auto"),
        ("[kafka]\nlisten = [1]\n", "listen"),
    ] {
        let problem = setup(text).problem();
        assert!(problem.contains("wharf.toml:2"), "{problem}");
        assert!(problem.contains(expected), "{problem}");
    }
    insta::assert_snapshot!(setup("[kafka]\nidle-timeout = 30\n").problem(), @r#"
    WHARF-1003
    the setting `kafka.idle-timeout` has an invalid value
    30 has no unit; expected a length of time like "30s" (set by DIR/wharf.toml:2)
    correct the value; `wharf config reference` describes every setting
    "#);
    let number = setup("").variable("WHARF_KAFKA__CONNECTIONS_MAX", "-1");
    insta::assert_snapshot!(number.problem(), @r#"
    WHARF-1003
    the setting `kafka.connections-max` has an invalid value
    "-1" is not a whole number (set by the environment variable WHARF_KAFKA__CONNECTIONS_MAX)
    correct the value; `wharf config reference` describes every setting
    "#);
    let unit = setup("").flag("kafka.listen", "9092", "--kafka-listen");
    insta::assert_snapshot!(unit.problem(), @r#"
    WHARF-1003
    the setting `kafka.listen` has an invalid value
    "9092" is not an address; write it like "127.0.0.1:9092" (set by the flag --kafka-listen)
    correct the value; `wharf config reference` describes every setting
    "#);
}

#[test]
fn a_file_that_is_no_toml_or_missing_is_refused_with_its_line() {
    insta::assert_snapshot!(setup("[kafka]\nlisten = \n").problem(), @r"
    WHARF-1003
    the configuration file DIR/wharf.toml is not valid TOML
    DIR/wharf.toml:2: string values must be quoted, expected literal string
    correct that line; `wharf config reference` shows how each is written
    ");
    insta::assert_snapshot!(setup("[kafka]\nlisten = '127.0.0.1:1'\nlisten = '127.0.0.1:2'\n").problem(), @r"
    WHARF-1003
    the configuration file DIR/wharf.toml is not valid TOML
    DIR/wharf.toml:3: duplicate key
    correct that line; `wharf config reference` shows how each is written
    ");
    let mut missing = setup("");
    missing.sources.file = Some(PathBuf::from("no/such/wharf.toml"));
    insta::assert_snapshot!(missing.problem(), @r"
    WHARF-1003
    the configuration file no/such/wharf.toml cannot be read
    No such file or directory (os error 2)
    check the path given with --config and its permissions
    ");
}

#[test]
fn values_that_cannot_work_together_are_refused() {
    for (text, key) in [
        ("[kafka]\nrequest-size-max = 1\n", "kafka.request-size-max"),
        (
            "[kafka]\nrequest-size-max = '3GiB'\n",
            "kafka.request-size-max",
        ),
        (
            "[kafka]\nin-flight-size-max = '1MiB'\n",
            "kafka.in-flight-size-max",
        ),
        ("[kafka]\nconnections-max = 0\n", "kafka.connections-max"),
        ("[kafka]\nidle-timeout = '0s'\n", "kafka.idle-timeout"),
        (
            "[log]\njournal-file-size = '1MiB'\n",
            "log.journal-file-size",
        ),
        (
            "[topics]\ndefault-partitions = 0\n",
            "topics.default-partitions",
        ),
        (
            "[groups]\nsession-timeout-min = '1h'\n",
            "groups.session-timeout-min",
        ),
        (
            "[groups]\nconsumer-session-timeout = '1s'\n",
            "groups.consumer-session-timeout",
        ),
        (
            "[groups]\nconsumer-heartbeat-interval = '1h'\n",
            "groups.consumer-heartbeat-interval",
        ),
        (
            "[groups]\nconsumer-heartbeat-interval-max = '2m'\nconsumer-heartbeat-interval = '1m'\n",
            "groups.consumer-heartbeat-interval",
        ),
        (
            "[groups]\nconsumer-members-max = 0\n",
            "groups.consumer-members-max",
        ),
        ("[node]\ndata = ''\n", "node.data"),
        (
            "[topics]\ndefault-partitions = 300_000\n",
            "topics.default-partitions",
        ),
        (
            "[kafka]\nin-flight-requests-max = 9_000_000\n",
            "kafka.in-flight-requests-max",
        ),
        (
            "[kafka]\nlisten = '[::]:1'\nallow-unauthenticated-beyond-loopback = true\n",
            "kafka.advertised",
        ),
    ] {
        let problem = setup(text).sources.load().unwrap_err();
        assert_eq!(problem.code, Some(Code::INVALID_CONFIGURATION), "{text}");
        assert!(problem.what.contains(key), "{problem}");
    }
}

#[test]
fn a_listener_beyond_loopback_is_refused_unless_allowed_by_name() {
    insta::assert_snapshot!(setup("[kafka]\nlisten = '0.0.0.0:9092'\n").problem(), @r"
    WHARF-1004
    listening on 0.0.0.0:9092 without authentication was refused
    0.0.0.0:9092 can be reached from other machines (`kafka.listen`, set by DIR/wharf.toml:2)
    listen on 127.0.0.1, or set `kafka.allow-unauthenticated-beyond-loopback = true` if everyone in reach may read and write everything
    ");
    for section in ["kafka", "http"] {
        for host in ["0.0.0.0", "192.0.2.1", "[::]", "broker.example"] {
            let listen = format!("[{section}]\nlisten = '{host}:1'\n");
            let problem = setup(&listen).sources.load().unwrap_err();
            assert_eq!(problem.code, Some(Code::OPEN_LISTENER_REFUSED), "{listen}");
            let allowed = format!(
                "{listen}allow-unauthenticated-beyond-loopback = true\n[kafka]\nadvertised = 'b:0'\n"
            );
            let allowed = match section {
                "kafka" => allowed.replace("\n[kafka]", ""),
                _ => allowed,
            };
            setup(&allowed).sources.load().unwrap();
        }
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
        ] {
            setup(&format!("[{section}]\nlisten = '{host}:1'\n"))
                .sources
                .load()
                .unwrap();
        }
    }
}

#[test]
fn what_is_shown_can_be_read_again_and_is_the_same() {
    let text = "[kafka]\nadvertised = 'b.example:1'\n[topics]\ndefault-retention = 'unlimited'\n";
    let loaded = setup(text).sources.load().unwrap();
    assert_eq!(loaded.config.topics.default_retention, Limit::Unlimited);
    for origins in [false, true] {
        let shown = to_toml(&loaded, origins);
        assert_eq!(
            setup(&shown).sources.load().unwrap().config,
            loaded.config,
            "{shown}"
        );
    }
    let json = to_json(&loaded, false);
    let read: Config = serde_json::from_value(json).unwrap();
    assert_eq!(read, loaded.config);
    let origin = &to_json(&loaded, true)["kafka"]["advertised"]["origin"];
    assert_eq!(
        (&origin["kind"], &origin["line"]),
        (&"file".into(), &2.into())
    );
}

#[test]
fn every_setting_has_a_meaning_and_the_reference_page_is_up_to_date() {
    let page = reference();
    let loaded = Sources::default().load().unwrap();
    let settings: Vec<_> = Config::settings().collect();
    assert!(!settings.is_empty());
    for config::Setting { section, key, doc } in settings {
        assert!(!doc.is_empty(), "{section}.{key} is not described");
        assert!(
            page.contains(&format!("### {section}.{key}\n")),
            "{section}.{key}"
        );
        assert!(
            section == "relay.<name>" || to_json(&loaded, false)[section].get(&key).is_some(),
            "{section}.{key}"
        );
    }
    let written = include_str!("../../../../docs/reference/configuration.md");
    assert!(
        written == page,
        "run `cargo run -- config reference > docs/reference/configuration.md`"
    );
}
