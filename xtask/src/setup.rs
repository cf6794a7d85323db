//! What the tests need beyond Rust: Debian packages when missing, Python packages in a virtual
//! environment, npm packages and Go programs below the target directory. Nothing is installed that is already
//! there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use harness::DatabaseKind;

use crate::shell;
use crate::workspace::Workspace;

/// Makes sure that `program` can be run, installing the Debian package that has it if need be.
pub(crate) fn debian(workspace: &Workspace, program: &str, package: &str) -> Result<()> {
    if shell::answer("sh", &["-c", &format!("command -v {program}")]).is_some() {
        return Ok(());
    }
    install(workspace, package).with_context(|| {
        format!("{program} is missing; install it with: apt-get install {package}")
    })
}

/// Makes sure that the servers of the databases are there, which are not in the path of everybody.
pub(crate) fn databases(workspace: &Workspace) -> Result<()> {
    for kind in [DatabaseKind::Postgres, DatabaseKind::MariaDb] {
        if let Err(missing) = kind.program() {
            install(workspace, kind.package()).context(missing)?;
            kind.program()?;
        }
    }
    Ok(())
}

fn install(workspace: &Workspace, package: &str) -> Result<()> {
    if shell::answer("sh", &["-c", "command -v apt-get"]).is_none() {
        bail!("there is no apt-get here");
    }
    let root = shell::answer("id", &["-u"]).is_some_and(|id| id == "0");
    if !root && shell::answer("sudo", &["-n", "true"]).is_none() {
        bail!("it takes root (or sudo without a password) to install it");
    }
    shell::say(format!("    installing the Debian package {package}"));
    let sudo: &[&str] = if root { &[] } else { &["sudo", "-n"] };
    let quiet = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-y",
    ];
    let log = workspace.log("setup-apt");
    for tail in [
        &["update"][..],
        &["install", "--no-install-recommends", package][..],
    ] {
        let words: Vec<&str> = [sudo, &quiet[..], tail].concat();
        let (program, arguments) = words.split_first().context("no command")?;
        if !shell::logged(&mut workspace.command(program, arguments), &log, |_| {})?.success() {
            shell::show_tail(&log);
            bail!("apt-get {} failed", tail.join(" "));
        }
    }
    Ok(())
}

/// The interpreter of the tests' own virtual environment.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf> {
    python_environment(workspace, "compat/requirements.txt", "venv")
}

/// The interpreter of a virtual environment with exactly the pinned packages of a file; made when
/// missing or when the pins changed.
pub(crate) fn python_environment(
    workspace: &Workspace,
    requirements: &str,
    name: &str,
) -> Result<PathBuf> {
    let wanted = fs::read_to_string(workspace.root.join(requirements))
        .with_context(|| format!("failed to read {requirements}"))?;
    let environment = workspace.keep(name);
    let (interpreter, stamp) = (
        environment.join("bin/python"),
        environment.join("requirements"),
    );
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(interpreter);
    }
    debian(workspace, "python3", "python3")?;
    shell::say(format!(
        "    making the Python environment ({requirements})"
    ));
    let log = workspace.log(&format!("setup-python-{name}"));
    let folder = environment
        .to_str()
        .context("the target directory's name is not UTF-8")?;
    let make = ["-m", "venv", "--clear", folder];
    if !shell::logged(&mut workspace.command("python3", &make), &log, |_| {})?.success() {
        // Debian ships the module without what it needs to make an environment.
        install(workspace, "python3-venv")?;
        if !shell::logged(&mut workspace.command("python3", &make), &log, |_| {})?.success() {
            shell::show_tail(&log);
            bail!("python3 -m venv failed");
        }
    }
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--requirement",
        requirements,
    ];
    if !shell::logged(&mut workspace.command(&interpreter, &pip), &log, |_| {})?.success() {
        shell::show_tail(&log);
        bail!(
            "pip failed to install {requirements}: {}",
            shell::last_line(&log)
        );
    }
    fs::write(&stamp, wanted)?;
    Ok(interpreter)
}

/// The packages of a client of `compat`.
pub(crate) fn node(workspace: &Workspace, client: &str) -> Result<PathBuf> {
    node_packages(workspace, &format!("compat/{client}"), client)
}

/// The folder with exactly the packages of a folder's `package-lock.json`; made when missing or when
/// they changed. No package's own scripts are run.
pub(crate) fn node_packages(workspace: &Workspace, folder: &str, name: &str) -> Result<PathBuf> {
    let lock = format!("{folder}/package-lock.json");
    let source = workspace.root.join(folder);
    let wanted = fs::read_to_string(workspace.root.join(&lock))
        .with_context(|| format!("failed to read {lock}"))?;
    debian(workspace, "node", "nodejs")?;
    let folder = workspace.keep("node").join(name.replace('/', "-"));
    let (modules, stamp) = (folder.join("node_modules"), folder.join("installed"));
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(modules);
    }
    debian(workspace, "npm", "npm")?;
    shell::say(format!("    installing the npm packages ({lock})"));
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    let log = workspace.log("setup-node");
    let mut command = workspace.command("npm", &["ci", "--ignore-scripts", "--no-audit"]);
    command.arg("--no-fund").current_dir(&folder);
    if !shell::logged(&mut command, &log, |_| {})?.success() {
        shell::show_tail(&log);
        bail!("npm failed to install {lock}: {}", shell::last_line(&log));
    }
    fs::write(&stamp, wanted)?;
    Ok(modules)
}

/// One of the programs of `compat/go`.
pub(crate) fn go(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    go_program(workspace, "compat/go", name, &format!("./{name}"))
}

/// A Go program of this checkout, built below the target directory. Go keeps what it downloads in the
/// user's cache, at the versions and checksums of `go.sum`.
pub(crate) fn go_program(
    workspace: &Workspace,
    module: &str,
    name: &str,
    package: &str,
) -> Result<PathBuf> {
    debian(workspace, "go", "golang-go")?;
    let folder = workspace.keep("go");
    fs::create_dir_all(&folder)?;
    let log = workspace.log(&format!("setup-go-{name}"));
    let mut command = workspace.command(
        "go",
        &["-C", module, "build", "-mod=readonly", "-buildvcs=false"],
    );
    command.arg("-o").arg(folder.join(name)).arg(package);
    if !shell::logged(&mut command, &log, |_| {})?.success() {
        shell::show_tail(&log);
        bail!(
            "{name} of {module} does not build: {}",
            shell::last_line(&log)
        );
    }
    Ok(folder.join(name))
}

/// The folder into which a Python package and nothing else is installed; installed when missing.
/// For packages that bring a program along.
pub(crate) fn python_package(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let folder = workspace.keep("tools").join(format!("{name}-{version}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    // With the environment of the tests there is a pip that works, whatever the system has.
    let interpreter = python(workspace)?;
    shell::say(format!("    installing {name} {version} from PyPI"));
    let wanted = format!("{name}=={version}");
    let unfinished = folder.with_extension("unfinished");
    let mut command = workspace.command(interpreter, &["-m", "pip", "install", "--quiet"]);
    command
        .args(["--disable-pip-version-check", "--no-deps", "--upgrade"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(&unfinished)
        .arg(&wanted);
    let log = workspace.log(&format!("setup-{name}"));
    if !shell::logged(&mut command, &log, |_| {})?.success() {
        bail!("pip install {wanted} failed: {}", shell::last_line(&log));
    }
    fs::rename(&unfinished, &folder)?;
    Ok(folder)
}

/// The program that `go install` builds; built when missing.
pub(crate) fn go_tool(
    workspace: &Workspace,
    package: &str,
    version: &str,
    name: &str,
) -> Result<PathBuf> {
    let folder = workspace.keep("tools").join(format!("{name}-{version}"));
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    if shell::answer("go", &["version"]).is_none() {
        bail!("go is missing");
    }
    shell::say(format!("    building {name} {version} with go"));
    let log = workspace.log(&format!("setup-{name}"));
    let mut command = workspace.command("go", &["install", &format!("{package}@{version}")]);
    command.env("GOBIN", &folder);
    if !shell::logged(&mut command, &log, |_| {})?.success() {
        bail!("go install {package} failed: {}", shell::last_line(&log));
    }
    Ok(program)
}

/// The program that `cargo install` puts below the target directory; installed when missing.
pub(crate) fn cargo_tool(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let folder = workspace.keep("tools").join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    shell::say(format!(
        "    building {name} {version} (once; this takes minutes)"
    ));
    let log = workspace.log(&format!("setup-{name}"));
    let mut command = workspace.cargo(&["install", "--locked", name, "--version", version]);
    command
        .arg("--root")
        .arg(&folder)
        .arg("--target-dir")
        .arg(workspace.keep("tools-build"));
    if !shell::logged(&mut command, &log, |_| {})?.success() {
        shell::show_tail(&log);
        bail!("cargo install {name} failed");
    }
    // The build's own files are large and not needed again.
    fs::remove_dir_all(workspace.keep("tools-build")).ok();
    Ok(program)
}
