//! Asking before something that cannot be taken back: the person types a name or a number, a script
//! says `--yes`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::cli::Usage;

/// Whether `name` may be destroyed. Without a terminal and without `--yes` it is an error.
pub(crate) fn destroy(yes: bool, name: &str, what: &str) -> anyhow::Result<bool> {
    ask(
        yes,
        name,
        &format!("{what} is not undone; add --yes to do it without being asked"),
        &format!("{what} is not undone. Type {name:?} to go on: "),
    )
}

/// Whether to go on with what is about to be done to many, as the person agrees by typing how many.
/// Without a terminal and without `--yes` it is an error.
pub(crate) fn go_on(yes: bool, count: &str, what: &str) -> anyhow::Result<bool> {
    ask(
        yes,
        count,
        &format!("nobody can be asked whether to {what}; add --yes to do it without being asked"),
        &format!("Type {count} to {what}: "),
    )
}

fn ask(yes: bool, expected: &str, nobody: &str, question: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(Usage(nobody.to_owned()).into());
    }
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == expected)
}
