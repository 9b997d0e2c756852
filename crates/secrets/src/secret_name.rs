//! Names of secrets, which are the names of the environment variables that functions read.

use crate::{Error, Result};

/// Maximum length of a name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Checks that a name is usable as an environment variable: letters, digits and `_`, not starting
/// with a digit.
///
/// Error: `invalid_name`.
pub fn check_name(name: &str) -> Result<()> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_usable = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if starts && name.len() <= NAME_BYTES_MAX && name.chars().all(is_usable) {
        return Ok(());
    }
    let cut = name.floor_char_boundary(NAME_BYTES_MAX);
    Err(Error::InvalidName { name: name[..cut].to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_environment_variables() {
        for name in ["STRIPE_KEY", "_a", "k8s"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "8k", "a-b", "a b", "ä", "A=B", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
