//! Debezium's connector for Postgres in Kafka Connect, standalone, with its outbox router and its
//! default settings, producing to a Wharf node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use harness::Group;

use super::origin::{Origin, PUBLICATION};

/// Its slot, which it makes itself, before the rows.
pub(super) const SLOT: &str = "debezium";
/// What `connect-standalone.sh` sets.
const JAVA: &[&str] = &[
    "-Xms256M",
    "-Xmx2G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// What is installed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Installed<'a> {
    /// The class path of Kafka Connect.
    pub(super) classes: &'a str,
    /// The folder of its plugins.
    pub(super) plugins: &'a Path,
}

/// Its place: its settings and its offsets.
pub(super) struct Place<'a> {
    installed: Installed<'a>,
    folder: PathBuf,
}

/// A running one; killed when dropped.
pub(super) struct Running {
    group: Group,
    log: PathBuf,
}

impl<'a> Place<'a> {
    /// A fresh place: `folder` is made. Offsets of another slot would stop it.
    pub(super) fn new(installed: Installed<'a>, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { installed, folder })
    }

    /// Starts it; it reads before long.
    pub(super) fn start(&self, origin: &Origin, kafka: &str) -> Result<Running> {
        let Installed { classes, plugins } = self.installed;
        let (worker, connector) = (self.folder.join("worker"), self.folder.join("connector"));
        let offsets = self.folder.join("offsets");
        fs::write(
            &worker,
            format!(
                "bootstrap.servers={kafka}\n\
                 plugin.path={}\n\
                 plugin.discovery=service_load\n\
                 listeners=http://127.0.0.1:0\n\
                 key.converter=org.apache.kafka.connect.storage.StringConverter\n\
                 value.converter=io.debezium.converters.BinaryDataConverter\n\
                 offset.storage.file.filename={}\n",
                plugins.display(),
                offsets.display()
            ),
        )?;
        fs::write(
            &connector,
            format!(
                "name=bench\n\
                 connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
                 tasks.max=1\n\
                 database.hostname=127.0.0.1\n\
                 database.port={}\n\
                 database.user={}\n\
                 database.password=none\n\
                 database.dbname=postgres\n\
                 topic.prefix=bench\n\
                 plugin.name=pgoutput\n\
                 slot.name={SLOT}\n\
                 publication.name={PUBLICATION}\n\
                 publication.autocreate.mode=disabled\n\
                 table.include.list=public.wharf_outbox\n\
                 snapshot.mode=no_data\n\
                 tombstones.on.delete=false\n\
                 message.prefix.exclude.list=.*\n\
                 transforms=outbox\n\
                 transforms.outbox.type=io.debezium.transforms.outbox.EventRouter\n\
                 transforms.outbox.route.topic.replacement=${{routedByValue}}\n",
                origin.port(),
                origin.user()
            ),
        )?;
        let log = self.folder.join("log");
        let output = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("java");
        command.args(JAVA).args(["-cp", classes]);
        command.arg("org.apache.kafka.connect.cli.ConnectStandalone");
        command.arg(worker).arg(connector);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Running {
            group: Group::spawn(&mut command)?,
            log,
        })
    }
}

impl Running {
    /// Its process id.
    pub(super) fn id(&mut self) -> u32 {
        self.group.child().id()
    }

    /// Asks it to end, so that it keeps its offsets.
    pub(super) fn stop(mut self) -> Result<()> {
        let before = self.group.ended()?;
        let log = self.log.display();
        ensure!(before.is_none(), "it had ended by itself; see {log}");
        self.group.terminate(super::PATIENCE)?;
        Ok(())
    }
}
