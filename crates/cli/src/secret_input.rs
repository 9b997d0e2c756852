//! Secrets from standard input: a prompt without echo on a terminal, otherwise the first line.

use std::io::{BufRead, IsTerminal, Read};

use console::Term;

use crate::error::{self, Result};

/// Maximum length of a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Reads a secret. `noun` is its name in the prompt and in errors.
pub fn read(noun: &str) -> Result<String> {
    let line = if std::io::stdin().is_terminal() {
        let terminal = Term::stderr();
        let prompted = terminal.write_str(&format!("{noun}: "));
        prompted.and_then(|()| terminal.read_secure_line())
    } else {
        let mut line = String::new();
        let mut input = std::io::stdin().lock().take(SECRET_BYTES_MAX);
        input.read_line(&mut line).map(|_| line)
    };
    let line = line.map_err(error::from_io("read standard input"))?;
    let secret = line.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(error::invalid(format!("standard input has no {noun}"))
            .with_hint(format!("Type the {noun}, or pipe it to the command.")));
    }
    Ok(secret.to_owned())
}
