//! Excerpts for errors: the line of a statement that an error refers to, with a caret below the
//! position.

use serde_json::Value;

use crate::Problem;

/// Key of the excerpt in the context of a problem.
const KEY: &str = "excerpt";

/// Number of characters of the line that are shown on either side of the position.
const AROUND: usize = 34;

impl Problem {
    /// Adds an excerpt of `text` to the problem. The position is the `line` and `column` in the
    /// problem's context; without them, nothing is added.
    #[must_use]
    pub fn with_excerpt(self, text: &str) -> Self {
        self.with_excerpt_of(None, text)
    }

    /// Adds an excerpt like [`Problem::with_excerpt`], with the path of the file above it.
    #[must_use]
    pub fn with_file_excerpt(self, file: &str, text: &str) -> Self {
        self.with_excerpt_of(Some(file), text)
    }

    fn with_excerpt_of(mut self, file: Option<&str>, text: &str) -> Self {
        let number = |key: &str| self.context.get(key).and_then(Value::as_u64);
        if let (Some(line), Some(column)) = (number("line"), number("column"))
            && let Some(excerpt) = excerpt(text, line, column)
        {
            let file = file.map(|file| format!("  {file}:{line}:{column}\n"));
            let excerpt = file.unwrap_or_default() + &excerpt;
            self.context.insert(KEY.to_owned(), excerpt.into());
        }
        self
    }

    /// Returns the excerpt of the problem, and the excerpts of the errors that its context lists
    /// under `failures` or `errors`.
    pub fn excerpts(&self) -> Vec<&str> {
        let combined = ["failures", "errors"].into_iter().filter_map(|key| self.context.get(key));
        let combined = combined.filter_map(Value::as_array).flatten();
        let combined = combined.filter_map(|one| one.get("context")?.get(KEY)?.as_str());
        self.context.get(KEY).and_then(Value::as_str).into_iter().chain(combined).collect()
    }
}

/// Returns the line, and below it a caret at the column. Lines and columns are numbered from 1.
fn excerpt(sql: &str, line: u64, column: u64) -> Option<String> {
    let text = sql.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let place = usize::try_from(column).ok()?.checked_sub(1)?;
    let letters: Vec<char> =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if place > letters.len() {
        return None;
    }
    let begin = place.saturating_sub(AROUND);
    let end = letters.len().min(place + AROUND);
    let before = if begin > 0 { "…" } else { "" };
    let after = if end < letters.len() { "…" } else { "" };
    let shown: String = letters[begin..end].iter().collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(before.chars().count() + place - begin);
    Some(format!("  {number} | {before}{shown}{after}\n  {margin} | {indent}^"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_of_combined_problems_are_listed() {
        let context = [("line", 1), ("column", 8)];
        let context = context.map(|(key, value)| (key.to_owned(), value.into()));
        let mut one = Problem::new(crate::ErrorCode::InvalidSql, "no");
        one.context.extend(context);
        let one = one.with_file_excerpt("models/m.sql", "SELECT x");
        let excerpt = "  models/m.sql:1:8\n  1 | SELECT x\n    |        ^";
        assert_eq!(one.excerpts(), [excerpt]);
        let mut run = Problem::new(crate::ErrorCode::RunFailed, "no");
        run.context.insert("failures".to_owned(), serde_json::json!([one]));
        assert_eq!(run.excerpts(), [excerpt]);
    }

    #[test]
    fn an_excerpt_is_the_line_with_a_caret_under_the_place() {
        let check = |sql: &str, line, column, expected: Option<&str>| {
            assert_eq!(excerpt(sql, line, column).as_deref(), expected, "{sql}");
        };
        check("select * form t", 1, 10, Some("  1 | select * form t\n    |          ^"));
        check("select\n\tdely\nfrom t", 2, 2, Some("  2 |  dely\n    |  ^"));
        check("select", 1, 7, Some("  1 | select\n    |       ^"));
        check("select", 1, 9, None);
        check("select", 2, 1, None);
        check("select", 0, 0, None);
        let long = format!("select {}, x", "a".repeat(200));
        let excerpt = excerpt(&long, 1, 210).unwrap();
        assert!(excerpt.lines().all(|line| line.chars().count() < 80), "{excerpt}");
        assert!(excerpt.contains("…aaa") && excerpt.contains(", x\n"), "{excerpt}");
    }
}
