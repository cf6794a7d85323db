//! `config`, `explain`, `completions`, and the three lines of an error.

use insta::assert_snapshot;

use crate::run::{command, run, run_in};

#[test]
fn the_version_is_one_line() {
    let expected = format!(
        "exit: 0\n----- stdout -----\nwharf {}\n----- stderr -----\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(run(&["--version"]), expected);
}

#[test]
fn help_shows_examples_and_exit_codes() {
    assert_snapshot!(run(&["config", "check", "--help"]), @r"
    exit: 0
    ----- stdout -----
    Check that a node would start with this configuration

    Usage: wharf config check [OPTIONS]

    Options:
          --config <FILE>  The configuration file [default: wharf.toml, if there is one]
      -h, --help           Print help

    Common options:
          --color <WHEN>         When to colour the output: auto, always or never [default: auto]
          --log-level <FILTER>   What to log on stderr, as in `info,wharf_server=debug` [env: WHARF_LOG]
                                 [default: info]
          --log-format <FORMAT>  How to log: text or json [default: text]

    Examples:
      wharf config check
      wharf config check --config /etc/wharf/wharf.toml && systemctl restart wharf

    Exit codes: 0 valid, 1 invalid, 2 wrong usage.
    ----- stderr -----
    ");
}

#[test]
fn wrong_usage_ends_with_2() {
    assert_snapshot!(run(&["sevre"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: unrecognized subcommand 'sevre'

      tip: a similar subcommand exists: 'serve'

    Usage: wharf [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["explain", "WHARF-9999"]), @r#"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: there is no code "WHARF-9999"; `wharf explain` alone lists every code
      fix: `wharf --help` and `wharf COMMAND --help` show how
    "#);
}

#[test]
fn a_misspelt_setting_is_told_in_three_lines() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("wharf.toml"),
        "[kafka]\nlisen = '127.0.0.1:1'\n",
    )
    .unwrap();
    assert_snapshot!(run_in(directory.path(), &["config", "show"]), @r"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1003]: the configuration has an unknown key `kafka.lisen`
      why: wharf.toml:2 sets it, and there is no setting of that name
      fix: did you mean `kafka.listen`? `wharf config reference` lists every setting (wharf explain WHARF-1003)
    ");
    assert_snapshot!(run_in(directory.path(), &["config", "check"]), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1003]: the configuration has an unknown key `kafka.lisen`
      why: wharf.toml:2 sets it, and there is no setting of that name
      fix: did you mean `kafka.listen`? `wharf config reference` lists every setting (wharf explain WHARF-1003)
    ");
}

#[test]
fn a_valid_configuration_is_shown_with_its_origins() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("w.toml"),
        "[kafka]\nlisten = '127.0.0.1:1'\n",
    )
    .unwrap();
    let shown = command(directory.path())
        .args(["config", "show", "--origin", "--config", "w.toml"])
        .env("WHARF_HTTP__LISTEN", "127.0.0.1:2")
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let listen: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("listen"))
        .collect();
    assert_snapshot!(listen.join("\n"), @r#"
    listen = "127.0.0.1:1"                                   # w.toml:2
    listen = "127.0.0.1:2"                                   # the environment variable WHARF_HTTP__LISTEN
    listen = "127.0.0.1:8081"                                # the default
    "#);
    assert_snapshot!(run_in(directory.path(), &["config", "check", "--config", "w.toml"]), @r"
    exit: 0
    ----- stdout -----
    the configuration is valid
    ----- stderr -----
    ");
    let json = run_in(
        directory.path(),
        &["config", "show", "-o", "json", "--config", "w.toml"],
    );
    assert!(json.contains("\"listen\": \"127.0.0.1:1\""), "{json}");
}

#[test]
fn a_code_is_explained_in_every_spelling_and_format() {
    let page = run(&["explain", "WHARF-1003"]);
    assert!(
        page.contains("# WHARF-1003: The configuration has"),
        "{page}"
    );
    assert_eq!(run(&["explain", "1003"]), page);
    let json = run(&["explain", "1003", "-o", "json"]);
    assert!(json.contains("\"code\": \"WHARF-1003\""), "{json}");
    let lines = run(&["explain", "-o", "jsonl"]);
    assert!(
        lines.contains("\n{\"code\":\"WHARF-1001\",\"title\":"),
        "{lines}"
    );
    let yaml = run(&["explain", "-o", "yaml"]);
    assert!(yaml.contains("\n- code: WHARF-1001\n  title: "), "{yaml}");
    let table = run(&["explain"]);
    assert!(
        table.contains("\nWHARF-1001  The address to listen on"),
        "{table}"
    );
}

#[test]
fn color_is_only_there_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let stderr = |arguments: &[&str]| {
        let output = command(directory.path()).args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!stderr(&["explain", "nothing"]).contains('\x1b'));
    assert!(!stderr(&["explain", "nothing", "--color", "never"]).contains('\x1b'));
    assert!(stderr(&["explain", "nothing", "--color", "always"]).contains('\x1b'));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(script.starts_with("exit: 0\n"), "{script}");
        assert!(script.contains("explain"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(directory.path())
        .args(["explain", "1003"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
