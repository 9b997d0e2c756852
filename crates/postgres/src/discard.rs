//! DISCARD, which removes the state of a session. Plans and sequences are not part of this state,
//! so `DISCARD PLANS` and `DISCARD SEQUENCES` have no effect.

use headwater_model::{ErrorCode, Problem};
use headwater_service::LockScope;

use crate::session::{MessageResult, Session};
use crate::session_command::StatementWords;

/// The part of a session's state that DISCARD removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardTarget {
    /// Settings, prepared statements, cursors, temporary objects and advisory locks.
    All,
    /// Cached plans.
    Plans,
    /// The state of sequences.
    Sequences,
    /// Temporary tables and views.
    Temporary,
}

impl DiscardTarget {
    /// Parses the words after DISCARD.
    pub fn parse(words: &mut StatementWords<'_>) -> Result<Self, Problem> {
        let kind = words.name().unwrap_or_default().to_ascii_uppercase();
        match kind.as_str() {
            "ALL" => Ok(DiscardTarget::All),
            "PLANS" => Ok(DiscardTarget::Plans),
            "SEQUENCES" => Ok(DiscardTarget::Sequences),
            "TEMP" | "TEMPORARY" => Ok(DiscardTarget::Temporary),
            _ => {
                let message = format!("`DISCARD {kind}` is not supported");
                Err(Problem::new(ErrorCode::UnsupportedStatement, message)
                    .with_hint("Use `DISCARD ALL`, `PLANS`, `SEQUENCES` or `TEMP`."))
            }
        }
    }
}

impl Session {
    /// Executes DISCARD, and returns its command tag.
    pub(crate) async fn discard(&mut self, target: DiscardTarget) -> MessageResult<&'static str> {
        Ok(match target {
            DiscardTarget::All => {
                self.reset(None)?;
                self.statements.clear();
                self.portals.clear();
                self.drop_temporary().await?;
                self.connection.release_locks(&[LockScope::Session]);
                "DISCARD ALL"
            }
            DiscardTarget::Plans => "DISCARD PLANS",
            DiscardTarget::Sequences => "DISCARD SEQUENCES",
            DiscardTarget::Temporary => {
                self.drop_temporary().await?;
                "DISCARD TEMP"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discard_names_its_target() {
        for (rest, expected) in [
            ("ALL", DiscardTarget::All),
            ("plans;", DiscardTarget::Plans),
            ("SEQUENCES", DiscardTarget::Sequences),
            ("TEMP", DiscardTarget::Temporary),
            ("temporary ;", DiscardTarget::Temporary),
        ] {
            assert_eq!(DiscardTarget::parse(&mut StatementWords::new(rest)), Ok(expected));
        }
        for rest in ["", "TABLES"] {
            assert!(DiscardTarget::parse(&mut StatementWords::new(rest)).is_err(), "{rest}");
        }
    }
}
