//! The line of a statement that an error is about, with a caret under the place.

use headwater_model::Problem;

/// The key under which a problem holds its excerpt for people.
const KEY: &str = "excerpt";

/// Characters of a line that are shown on either side of the place.
const AROUND: usize = 34;

/// Adds the line of the statement to a problem that names its place.
pub fn add(mut problem: Problem, sql: &str) -> Problem {
    let number = |key: &str| problem.context.get(key).and_then(serde_json::Value::as_u64);
    if let (Some(line), Some(column)) = (number("line"), number("column"))
        && let Some(excerpt) = excerpt(sql, line, column)
    {
        problem.context.insert(KEY.to_owned(), excerpt.into());
    }
    problem
}

/// Returns the excerpt of a problem.
pub fn of(problem: &Problem) -> Option<&str> {
    problem.context.get(KEY)?.as_str()
}

/// Line and column count from 1.
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
