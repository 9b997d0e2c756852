//! Changes that requests ask for: on which branch, for whom, and each once.
//!
//! A client that did not hear an answer asks again, with the key it gave the request. What was done then is
//! not done again.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use headwater_jobs::NewJob;
use headwater_lake::Transaction;
use headwater_model::{JobId, JobKind, PROPERTY_JOB};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Refusal;
use super::access::Access;
use super::error::Answer;
use super::place::Place;
use crate::http::App;
use crate::http::extract::{Caller, too_long};

/// The header that tells one attempt at a request from another request.
const KEY_HEADER: &str = "idempotency-key";

/// The header with what to say of the commit.
const MESSAGE_HEADER: &str = "x-headwater-message";

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// The requests for changes that are under way, by what tells them apart.
#[derive(Debug, Default)]
pub struct Requests(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Requests {
    /// Waits until the same request is no longer under way. It is, until the guard is dropped.
    async fn wait_for(&self, digest: String) -> tokio::sync::OwnedMutexGuard<()> {
        let own = {
            let mut known = self.0.lock();
            known.retain(|_, request| request.strong_count() > 0);
            let found = known.get(&digest).and_then(Weak::upgrade);
            found.unwrap_or_else(|| {
                let new = Arc::default();
                known.insert(digest, Arc::downgrade(&new));
                new
            })
        };
        own.lock_owned().await
    }
}

/// A request for a change.
pub struct Write {
    /// Where it is to be made.
    pub place: Place,
    /// What was sent with it.
    pub body: Bytes,
    method: Method,
    headers: HeaderMap,
    author: String,
    /// The job that it is, once it is one.
    job: OnceLock<JobId>,
}

impl<S: Send + Sync> FromRequest<S> for Write {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let place = Place::from_request_parts(&mut parts, state).await?;
        let author = Caller::from_request_parts(&mut parts, state).await?.0.author().to_owned();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let request = Request::from_parts(parts, body);
        let body = Bytes::from_request(request, state).await.map_err(|error| too_long(&error))?;
        Ok(Write { place, body, method, headers, author, job: OnceLock::new() })
    }
}

impl Write {
    /// What was sent, read from JSON.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Answer<T> {
        super::body::read(&self.headers, &self.body)
    }

    /// How the client asks to be let in to the files.
    pub fn access(&self, app: &App) -> Access {
        Access::asked(app, &self.headers)
    }

    /// The branch to write to.
    pub async fn branch(&self, app: &App) -> Answer<String> {
        self.place.branch(app).await
    }

    /// Makes a change, in words such as `append to flights`, as a job, unless the same request made it
    /// before; none is answered then. The same request waits while it is under way, as where a client gave
    /// up waiting and asks again.
    pub async fn once<T>(
        &self,
        app: &App,
        what: &str,
        work: impl Future<Output = Answer<T>>,
    ) -> Answer<Option<T>> {
        let name = self.name();
        let _alone = app.requests.wait_for(self.digest()).await;
        if is_done(app, name.as_deref()).await? {
            return Ok(None);
        }
        let (context, guard) = app.service.components().jobs.record(self.new_job(what)).await?;
        let _ = self.job.set(context.id());
        let made = match work.await {
            Ok(done) => Ok(Some(done)),
            // The same request was under way, or this was made and its answer lost.
            Err(refusal) => match is_done(app, name.as_deref()).await {
                Ok(true) => Ok(None),
                _ if refusal.is_doubtful() => match self.is_committed(app, context.id()).await {
                    Ok(true) => Ok(None),
                    Ok(false) => Err(refusal),
                    Err(_) => Err(refusal.of_commit()),
                },
                Ok(false) | Err(_) => Err(refusal),
            },
        };
        guard.finish(made.as_ref().map(|_| Value::Null).map_err(Refusal::problem));
        made
    }

    /// Whether the branch has a commit that the request made as this job.
    async fn is_committed(&self, app: &App, job: JobId) -> Answer<bool> {
        let branch = self.branch(app).await?;
        Ok(app
            .service
            .components()
            .lake
            .is_committed(&branch, PROPERTY_JOB, &job.to_string())
            .await?)
    }

    fn new_job(&self, what: &str) -> NewJob {
        let reference = self.place.reference.to_string();
        let summary = self.message(&format!("{what} on {reference}"));
        let new = NewJob::new(JobKind::Commit, summary, self.author.clone());
        NewJob { reference: Some(reference), ..new }
    }

    /// Begins a change that only this request makes.
    pub async fn transaction(&self, app: &App) -> Answer<Transaction> {
        let branch = self.branch(app).await?;
        let mut transaction =
            app.service.components().lake.transaction(&branch, &self.author).await?;
        if let Some(name) = self.name() {
            transaction.request(&name);
        }
        if let Some(job) = self.job.get() {
            transaction.property(PROPERTY_JOB, job.to_string());
        }
        Ok(transaction)
    }

    /// What to say of the commit: what the client says, or else this.
    pub fn message(&self, otherwise: &str) -> String {
        let given = text(&self.headers, MESSAGE_HEADER);
        let given = given.filter(|text| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX);
        given.unwrap_or(otherwise).to_owned()
    }

    /// What names the request, where it has a key. The same key with another change is another request.
    fn name(&self) -> Option<String> {
        text(&self.headers, KEY_HEADER).filter(|key| !key.is_empty())?;
        Some(self.digest())
    }

    /// What tells the request from others: its key, where it has one, and all that it asks for.
    fn digest(&self) -> String {
        let key = text(&self.headers, KEY_HEADER).unwrap_or_default();
        let reference = self.place.reference.to_string();
        let mut digest = Sha256::new();
        let path = self.place.path.as_str();
        let method = self.method.as_str();
        for part in
            [key, &reference, method, path].map(str::as_bytes).into_iter().chain([&*self.body])
        {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        hex::encode(digest.finalize())
    }
}

async fn is_done(app: &App, name: Option<&str>) -> Answer<bool> {
    match name {
        Some(name) => Ok(app.service.components().lake.is_request_done(name).await?),
        None => Ok(false),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}
