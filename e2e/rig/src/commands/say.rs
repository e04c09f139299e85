//! Prints the output of the commands, in color on a terminal.

use std::{env, io::IsTerminal};

fn styled(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Prints a remark.
pub(crate) fn note(text: &str) {
    println!("{}", styled("2", text));
}

/// Prints a heading after an empty line.
pub(crate) fn heading(text: &str) {
    println!("\n{}", styled("1", text));
}

/// Prints the name of a part and its location.
pub(crate) fn part(name: &str, what: &str) {
    println!("  {} {what}", styled("32", &format!("{name:<11}")));
}

/// Prints a command as a user types it.
pub(crate) fn typed(command: &str) {
    println!("\n{}", styled("1;36", &format!("$ {command}")));
}

/// Prints lines to copy.
pub(crate) fn lines<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) {
    for line in lines {
        println!("  {}", line.as_ref());
    }
}
