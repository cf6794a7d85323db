//! TLS to the database, with a certificate made for the case.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use wharf_message::Code;
use wharf_relay::State;
use wharf_relay::postgres::PostgresLog;
use wharf_relay::target::memory::MemoryTarget;

use super::support::{Bed, Running, arrive, numbers, server};

/// Whom the server runs as when the tests run as root.
const NOBODY: u32 = 65534;

/// A certificate for this address and its key, as the server may read them.
fn certificate(folder: &Path, address: &str) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=wharf",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", &format!("subjectAltName=IP:{address}")])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let key = folder.join("key.pem");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder, 0o755);
    mode(&key, 0o600);
    // Only root may give it away, and only then the server is somebody else.
    chown(&key, Some(NOBODY), Some(NOBODY)).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_over_tls_and_a_server_of_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Addresses of this process's own, so that no port is in anybody's way.
    let (high, low) = (
        std::process::id() / 250 % 250 + 1,
        std::process::id() % 250 + 1,
    );
    let (named, unnamed) = (format!("127.{high}.{low}.7"), format!("127.{high}.{low}.8"));
    certificate(folder.path(), &named);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = server(&[
        "-c",
        "ssl=on",
        "-c",
        &format!("ssl_cert_file={}", path("cert.pem")),
        "-c",
        &format!("ssl_key_file={}", path("key.pem")),
        "-c",
        &format!("listen_addresses={named},{unnamed}"),
    ]);
    let (bed, target) = (Bed::on(&server).await, MemoryTarget::default());
    let file = server.folder().join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&file).unwrap();
    let only = "hostssl all all 127.0.0.0/8 trust\nhostnossl all all 127.0.0.0/8 reject";
    std::fs::write(&file, format!("{only}\n{rules}")).unwrap();
    bed.run("SELECT pg_reload_conf()").await;
    let source = |host: &str, mode: &str| {
        let (user, database) = (server.user(), &bed.slot);
        let root = path("cert.pem");
        let url = format!("postgres://{user}@{host}/{database}?sslmode={mode}&sslrootcert={root}");
        PostgresLog::new(url, "wharf_outbox", &bed.slot).unwrap()
    };
    let mut last = 0;
    for (host, mode) in [
        (&named, "prefer"),
        (&unnamed, "require"),
        (&unnamed, "verify-ca"),
        (&named, "verify-full"),
    ] {
        let relay = Running::start(source(host, mode), &target);
        relay.until(mode, |view| view.state == State::Running).await;
        bed.following().await;
        last += 1;
        bed.insert(&[&last.to_string()]).await;
        arrive(&target, &numbers(1, last)).await;
        relay.stop().await;
        bed.free().await;
    }
    for (host, mode, code) in [
        (&unnamed, "verify-full", Code::OUTBOX_SOURCE_UNAVAILABLE),
        (&named, "disable", Code::OUTBOX_ACCESS_REFUSED),
    ] {
        let relay = Running::start(source(host, mode), &target);
        relay.until(mode, |view| view.state == State::Stopped).await;
        let (_, trouble) = relay.status.view().trouble.unwrap();
        assert_eq!(trouble.code, code, "{trouble}");
        relay.stop().await;
    }
}
