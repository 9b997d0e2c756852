//! Log lines of the server about jobs.
//!
//! The log target of these lines is this module, so that a background server can filter them out. A
//! brief job, such as a query, is logged in one line, at its end.

use headwater_model::{Job, JobStatus};

/// Returns true if the server logs the lines about jobs.
pub(crate) fn is_enabled() -> bool {
    tracing::enabled!(tracing::Level::WARN)
}

/// Logs the start of a job.
pub(crate) fn began(job: &Job) {
    if !job.kind.is_short() {
        let (kind, id, summary) = (name(&job.kind), job.id.short(), line(&job.summary));
        tracing::info!("{kind} {id} began: {summary}");
    }
}

/// Logs the end of a job.
pub(crate) fn ended(job: &Job) {
    let (kind, id, summary) = (name(&job.kind), job.id.short(), line(&job.summary));
    let (status, wall_ms) = (name(&job.status), job.usage.wall_ms);
    match &job.error {
        Some(problem) if job.status == JobStatus::Failed => {
            let message = line(&problem.message);
            tracing::warn!("{kind} {id} {status} after {wall_ms} ms: {summary}: {message}");
        }
        _ => tracing::info!("{kind} {id} {status} after {wall_ms} ms: {summary}"),
    }
}

/// Returns the name of a kind or status: its JSON form without quotes.
fn name(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Maximum length of the text of a log line, in characters.
const CHARACTERS_MAX: usize = 200;

/// Returns the first line of a text, truncated to [`CHARACTERS_MAX`] characters. Control characters
/// are replaced by spaces.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let clean = first.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn text_is_printed_as_one_line_without_control_characters() {
        assert_eq!(line("SELECT \u{1b}[31m1\nFROM t"), "SELECT  [31m1");
        assert_eq!(line(&"x".repeat(1000)).len(), 200);
    }
}
