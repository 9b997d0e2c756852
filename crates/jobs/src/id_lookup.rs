//! Lookup of a job by a part of its id.

use headwater_model::{Job, JobId};
use headwater_store::ReverseScan;
use serde_json::Value;

use crate::record::{JOBS, QUERIES};
use crate::writer::JobsState;
use crate::{Error, Jobs, Result};

/// Maximum number of candidates that an error lists.
const NAMED: usize = 5;
/// Number of newest jobs whose ids are compared with an unknown id, to suggest a similar id.
const COMPARED: usize = 500;

impl Jobs {
    /// Returns the job whose id begins or ends with this text, ignoring hyphens and case.
    ///
    /// Errors: `job_not_found`, with the job whose last digits are most similar; `invalid_argument`
    /// if several jobs match.
    pub async fn get(&self, text: &str) -> Result<Job> {
        if let Ok(id) = text.trim().parse() {
            return self.job(id).await;
        }
        let wanted = digits(text);
        let ids = self.inner.shared.ids_newest_first().await?;
        let fits = |id: &&String| {
            let id = digits(id);
            !wanted.is_empty() && (id.starts_with(&wanted) || id.ends_with(&wanted))
        };
        let found: Vec<&String> = ids.iter().filter(fits).take(NAMED + 1).collect();
        match found.as_slice() {
            [] => Err(not_found(text, &wanted, &ids)),
            [id] => {
                let id = id.parse().map_err(|_| not_found(text, &wanted, &[]))?;
                self.job(id).await
            }
            several => {
                let matches = several.iter().take(NAMED).map(|id| short(id)).collect();
                Err(Error::AmbiguousJob { id: text.to_owned(), matches })
            }
        }
    }

    /// Returns a job's payload; `None` if the job had no payload, or if the payload was deleted.
    pub async fn payload(&self, id: JobId) -> Result<Option<Value>> {
        self.inner.shared.payload(id).await
    }
}

impl JobsState {
    async fn ids_newest_first(&self) -> Result<Vec<String>> {
        let mut ids: Vec<String> = self.live.lock().keys().map(ToString::to_string).collect();
        let kept = self.queries_from.read().clone();
        for (journal, from) in [(JOBS, None), (QUERIES, Some(kept))] {
            let mut entries = ReverseScan::new(journal, from, None);
            while entries.peek(&*self.store).await?.is_some() {
                ids.extend(entries.pop().map(|entry| entry.key));
            }
        }
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        Ok(ids)
    }
}

pub(crate) fn digits(text: &str) -> String {
    text.trim().chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
}

fn short(id: &str) -> String {
    let digits = digits(id);
    digits.get(20..).unwrap_or(&digits).to_owned()
}

fn not_found(text: &str, wanted: &str, ids: &[String]) -> Error {
    let distance = |id: &String| strsim::osa_distance(&short(id), wanted);
    let nearest = ids.iter().take(COMPARED).min_by_key(|id| distance(id));
    let near = nearest.filter(|id| distance(id) <= 2).map(|id| short(id));
    Error::JobNotFound { id: text.to_owned(), near }
}
