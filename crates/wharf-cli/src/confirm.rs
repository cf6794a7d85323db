//! Asking before something is destroyed: the person types the name, a script says `--yes`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::cli::Usage;

/// Whether `name` may be destroyed. Without a terminal and without `--yes` it is an error.
pub(crate) fn destroy(yes: bool, name: &str, what: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        let message = format!("{what} is not undone; add --yes to do it without being asked");
        return Err(Usage(message).into());
    }
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{what} is not undone. Type {name:?} to go on: ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == name)
}
