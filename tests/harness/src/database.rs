//! Postgres and MariaDB: each with everything it writes in a folder of its own, on a Unix socket and
//! no port, so that no two can be in each other's way.
//!
//! Invariants: a server ends with the process that started it, however that ends, since a shell beside
//! it waits for the end of a pipe that only that process holds; then its folder is gone too. What is
//! killed or stopped can be started again on the same files. A server that was handed out accepts
//! connections.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::Group;

/// The longest a server may take to accept connections, with recovery.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// The longest a server may take to end.
const DOWN_WITHIN: Duration = Duration::from_secs(30);
/// Whom Postgres runs as when the tests run as root, as which it refuses to run.
const NOBODY: u32 = 65534;
/// Starts a server beside itself, tells its process id, and ends it when the pipe to its own standard
/// input ends. The first argument is the folder, the second the signal.
const KEEPER: &str = r#"
folder=$1; signal=$2; shift 2
"$@" > "$folder/log" 2>&1 < /dev/null &
server=$!
echo $server
while read -r _; do :; done
kill -s "$signal" $server 2> /dev/null
wait $server
rm -rf "$folder"
"#;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// Postgres, as Debian's `postgresql` has it.
    Postgres,
    /// MariaDB, as Debian's `mariadb-server` has it.
    MariaDb,
}

impl DatabaseKind {
    /// The Debian package that has its server.
    pub fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::MariaDb => "mariadb-server",
        }
    }

    /// Where its server is; an error that says what to install when it is missing.
    pub fn program(self) -> Result<PathBuf> {
        let (name, package) = match self {
            Self::Postgres => ("postgres", self.package()),
            Self::MariaDb => ("mariadbd", self.package()),
        };
        let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default();
        folders.push("/usr/sbin".into());
        // Debian keeps Postgres's programs out of the path, below the version.
        if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
            let versions = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
            let mut versions: Vec<_> = versions.collect();
            versions.sort();
            folders.extend(versions.into_iter().rev());
        }
        let mut found = folders.into_iter().map(|folder| folder.join(name));
        let found = found.find(|program| program.is_file());
        let found = found.with_context(|| {
            format!("{name} is missing; install it with: apt-get install {package}")
        })?;
        // Its other programs are beside the file, not beside a link to it.
        Ok(fs::canonicalize(found)?)
    }

    /// The signal that ends it at once and leaves nothing behind outside of its folder.
    fn end(self) -> (&'static str, Signal) {
        match self {
            Self::Postgres => ("QUIT", Signal::QUIT),
            Self::MariaDb => ("KILL", Signal::KILL),
        }
    }
}

/// A database server; ends when dropped or when this process does, with all its data.
#[derive(Debug)]
pub struct Database {
    kind: DatabaseKind,
    folder: PathBuf,
    options: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    keeper: Group,
    server: Pid,
}

impl Database {
    /// A new server with no data, started, with more options of its command line.
    pub fn start(kind: DatabaseKind, options: &[&str]) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("wharf-db-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let mut database = Self {
            kind,
            folder,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            running: None,
        };
        database.initialise()?;
        database.up()?;
        Ok(database)
    }

    /// The folder in which its socket is; for Postgres the `host` of clients.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of one of its databases, for clients that read URLs.
    pub fn url(&self, database: &str) -> String {
        let user = self.user();
        match self.kind {
            DatabaseKind::Postgres => {
                let folder = self.folder.display();
                format!("postgres://{user}@localhost/{database}?host={folder}")
            }
            DatabaseKind::MariaDb => {
                let socket = self.socket();
                format!(
                    "mysql://{user}@localhost/{database}?socket={}",
                    socket.display()
                )
            }
        }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(match self.kind {
            DatabaseKind::Postgres => ".s.PGSQL.5432",
            DatabaseKind::MariaDb => "socket",
        })
    }

    /// Its user with all rights, who needs no password.
    pub fn user(&self) -> &'static str {
        match self.kind {
            DatabaseKind::Postgres => "wharf",
            DatabaseKind::MariaDb => "root",
        }
    }

    /// Kills it (SIGKILL), in the middle of whatever it is doing, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Starts it again on the same files.
    pub fn up(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            let mut running = self.spawn()?;
            match self.wait_until_up(&mut running, deadline)? {
                true => {
                    self.running = Some(running);
                    return Ok(());
                }
                // After a kill, what is left of the old server may be in the way for a moment.
                false if Instant::now() < deadline => {}
                false => bail!("the database did not start:\n{}", self.log()),
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        // Each connection of Postgres has a process, which outlives the server by a moment.
        let mut processes = children(running.server);
        processes.push(running.server);
        for &process in processes.iter().rev() {
            kill_process(process, signal).ok();
        }
        let deadline = Instant::now() + DOWN_WITHIN;
        while processes.iter().any(|&process| alive(process)) {
            if Instant::now() > deadline {
                bail!("the database does not end:\n{}", self.log());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        // The keeper alone, which would remove the folder at its end.
        running.keeper.kill()?;
        Ok(())
    }

    fn initialise(&self) -> Result<()> {
        // One after the other: MariaDB's script fails now and then beside another one.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let program = self.kind.program()?;
        let data = self.folder.join("data");
        let mut command = match self.kind {
            DatabaseKind::Postgres => {
                let mut command = self.unprivileged(&program.with_file_name("initdb"))?;
                command.args(["--auth=trust", "--no-sync", "--no-instructions"]);
                command.args(["--username", self.user(), "--encoding=UTF8", "--locale=C"]);
                command.arg("--pgdata").arg(&data);
                command
            }
            DatabaseKind::MariaDb => {
                let mut command = Command::new("mariadb-install-db");
                command.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
                command.arg("--auth-root-authentication-method=normal");
                command.args(self.as_this_user());
                command.arg(format!("--tmpdir={}", self.folder.display()));
                command.arg(format!("--datadir={}", data.display()));
                command
            }
        };
        let output = command.output().with_context(|| {
            format!("failed to run {}", command.get_program().to_string_lossy())
        })?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!(
                "the database could not be set up:\n{}",
                String::from_utf8_lossy(&text)
            );
        }
        Ok(())
    }

    fn spawn(&self) -> Result<Running> {
        let program = self.kind.program()?;
        let data = self.folder.join("data");
        let server = match self.kind {
            DatabaseKind::Postgres => {
                let mut command = self.unprivileged(&program)?;
                command.arg("-D").arg(&data);
                command.arg("-k").arg(&self.folder);
                command.args(["-c", "listen_addresses=", "-p", "5432"]);
                command
            }
            DatabaseKind::MariaDb => {
                let mut command = Command::new(&program);
                command.args(["--no-defaults", "--skip-networking", "--skip-name-resolve"]);
                command.args(self.as_this_user());
                command.arg(format!("--tmpdir={}", self.folder.display()));
                command.arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", self.socket().display()));
                command.arg(format!("--pid-file={}", self.folder.join("pid").display()));
                command
            }
        };
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.folder);
        keeper.arg(self.kind.end().0).arg(server.get_program());
        keeper.args(server.get_args()).args(&self.options);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        keeper.stderr(Stdio::null());
        let mut keeper = Group::spawn(&mut keeper)?;
        let output = keeper
            .child()
            .stdout
            .take()
            .context("the output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let server = line.trim().parse().ok().and_then(Pid::from_raw);
        Ok(Running {
            keeper,
            server: server.context("the keeper tells no process")?,
        })
    }

    /// Whether it came up; not, when it ended.
    fn wait_until_up(&self, running: &mut Running, deadline: Instant) -> Result<bool> {
        let process = running.server.as_raw_nonzero().to_string();
        loop {
            let up = match self.kind {
                DatabaseKind::MariaDb => UnixStream::connect(self.socket()).is_ok(),
                // The socket is there before connections are accepted; this file tells.
                DatabaseKind::Postgres => {
                    let told = fs::read_to_string(self.folder.join("data/postmaster.pid"));
                    told.is_ok_and(|told| {
                        told.lines().next() == Some(&process)
                            && told
                                .lines()
                                .nth(7)
                                .is_some_and(|line| line.trim() == "ready")
                    })
                }
            };
            if up {
                return Ok(true);
            }
            if Instant::now() > deadline || !alive(running.server) {
                running.keeper.kill()?;
                return Ok(false);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// A command as somebody who is not root.
    fn unprivileged(&self, program: &Path) -> Result<Command> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Command::new(program));
        }
        chown(&self.folder, Some(NOBODY), Some(NOBODY))?;
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={NOBODY}"));
        command.arg(format!("--regid={NOBODY}"));
        command.arg("--clear-groups").arg(program);
        command.current_dir(&self.folder);
        Ok(command)
    }

    /// MariaDB runs as root only when told to.
    fn as_this_user(&self) -> Option<&'static str> {
        rustix::process::geteuid()
            .is_root()
            .then_some("--user=root")
    }
}

/// The state of a process and its parent, if there is one.
fn status(process: &str) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// Whether a process is there and has not ended.
fn alive(process: Pid) -> bool {
    status(&process.as_raw_nonzero().to_string()).is_some_and(|(state, _)| state != 'Z')
}

/// The processes that a process has started.
fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ours = names.filter(|name| status(name).is_some_and(|(_, of)| of == parent));
    ours.filter_map(|name| Pid::from_raw(name.parse().ok()?))
        .collect()
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end(self.kind.end().1).ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}
