//! The position of an error in the text that the client sent. `psql` marks this position with a
//! caret.

use headwater_model::Problem;
use headwater_postgres_catalog::translate;
use serde_json::Value;

use crate::session::{MessageError, Session};

/// The key in a problem's context for the position: the number of a character in the client's text,
/// from 1.
const POSITION: &str = "position";

impl Session {
    /// Adds the position of an error to the problem. `statement` is the failed part of `text`,
    /// which the client sent. Queries of PostgreSQL's catalogs get no position, because they are
    /// rewritten before execution.
    pub fn located(&self, failure: MessageError, statement: &str, text: &str) -> MessageError {
        match failure {
            MessageError::Problem(problem)
                if matches!(translate(statement, &self.identity()), Ok(None)) =>
            {
                MessageError::Problem(with_position(problem, statement, text))
            }
            other => other,
        }
    }
}

fn with_position(mut problem: Problem, statement: &str, text: &str) -> Problem {
    let number = |key: &str| problem.context.get(key).and_then(Value::as_u64);
    let (Some(line), Some(column)) = (number("line"), number("column")) else { return problem };
    let start = (statement.as_ptr() as usize).checked_sub(text.as_ptr() as usize);
    let Some(before) = start.and_then(|start| text.get(..start)) else { return problem };
    let lines = statement.split('\n').take(line.saturating_sub(1) as usize);
    let lines: usize = lines.map(|line| line.chars().count() + 1).sum();
    let position = (before.chars().count() + lines) as u64 + column;
    problem.context.insert(POSITION.to_owned(), position.into());
    problem
}

/// Returns the position that [`Session::located`] added to a problem, if any.
pub fn position(problem: &Problem) -> Option<u64> {
    problem.context.get(POSITION).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use headwater_model::ErrorCode;

    use super::*;

    #[test]
    fn positions_count_characters_of_the_whole_text() {
        let text = "SELECT 'ä';\n  SELECT 1,\n nope";
        let statement = &text[text.find("SELECT 1").expect("a statement")..];
        let mut problem = Problem::new(ErrorCode::InvalidSql, "an error");
        problem.context.insert("line".to_owned(), 2.into());
        problem.context.insert("column".to_owned(), 2.into());
        let problem = with_position(problem, statement, text);
        assert_eq!(position(&problem), Some(26));
        assert_eq!(text.chars().nth(25), Some('n'));
    }
}
