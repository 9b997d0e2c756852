//! Calling a function by its name: its environment, one invocation, and what it printed as the job's
//! events.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_functions::{
    Argument, Environment, EnvironmentEvent, EnvironmentSpec, FunctionEvent, Invocation, Returned,
    Returns, Share,
};
use headwater_jobs::JobContext;
use headwater_model::{Event, LogStream, Usage};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Callable, Error, Project, Result, Runner, fingerprint};

/// Lines a function may be ahead of whoever reads them; then it waits.
const LINES_AHEAD: usize = 1_024;

/// How often it is noted that an environment is still asked for.
const ASKED_EVERY: Duration = Duration::from_secs(60);

/// The environments that functions of a project were given, so that a call does not ask for its own
/// again as long as it counts.
#[derive(Debug, Default)]
pub struct Given(Mutex<Vec<(EnvironmentSpec, Weak<Environment>, Instant)>>);

impl Given {
    fn find(&self, runner: &Runner, spec: &EnvironmentSpec) -> Option<Arc<Environment>> {
        let given = self.0.lock();
        let (_, environment, asked) = given.iter().find(|(known, _, _)| known == spec)?;
        let environment = environment.upgrade().filter(|_| asked.elapsed() < ASKED_EVERY)?;
        drop(given);
        runner.functions.counts(&environment).then_some(environment)
    }

    fn note(&self, spec: EnvironmentSpec, environment: &Arc<Environment>) {
        let mut given = self.0.lock();
        given.retain(|(known, _, _)| *known != spec);
        given.push((spec, Arc::downgrade(environment), Instant::now()));
    }
}

impl Runner {
    /// Calls a function of a project within a job. What it printed, what it took and what it waited for
    /// is in the job when this returns, whatever came of it.
    pub async fn call(
        &self,
        (project, given): (&Project, &Given),
        callable: &Callable,
        (arguments, kind): (Vec<Argument>, Returns),
        context: &JobContext,
    ) -> Result<Returned> {
        let (cancelled, draining) = (context.cancelled(), context.draining());
        let (asked, label) = (Instant::now(), callable.name.clone());
        let environment = tokio::select! {
            environment = self.environment_of(project, given, callable, context) => environment,
            () = cancelled.cancelled() => {
                Err(Error::other(&headwater_functions::Error::Cancelled { label }))
            }
            () = draining.cancelled() => {
                Err(Error::other(&headwater_functions::Error::Stopping { label }))
            }
        };
        let environment_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        context.add_usage(&Usage { environment_ms, ..Usage::default() });
        let invocation = Invocation {
            environment: environment?,
            files: project.files.clone(),
            module: callable.function.file.to_string(),
            function: callable.function.name.clone(),
            arguments,
            kind,
            limits: callable.limits(&project.defaults),
            label: callable.name.clone(),
            room: Some(self.room.clone()),
            reuse: callable.reuse,
            share: Share {
                owner: format!("caller `{}`", context.author()).into(),
                job: Some(context.id()),
                priority: callable.priority(&project.defaults),
            },
            arena: project.defaults.arena,
            begins_until: context.draining(),
        };
        let (sink, mut lines) = mpsc::channel(LINES_AHEAD);
        let printed = async {
            while let Some(FunctionEvent::Line { stream, file, line, text }) = lines.recv().await {
                context.emit(Event::Log { stream, model: None, file, line, text });
            }
        };
        let invoked = self.functions.invoke(invocation, sink, cancelled.clone());
        let (outcome, ()) = tokio::join!(invoked, printed);
        context.add_usage(&outcome.usage);
        let settled = match outcome.returned {
            // From here on it is the room's, and no longer the function's.
            Ok(Returned::Table(table)) => table.settle(&self.room).await.map(Returned::Table),
            other => other,
        };
        settled.map_err(|error| Error::other(&error))
    }

    async fn environment_of(
        &self,
        project: &Project,
        given: &Given,
        callable: &Callable,
        context: &JobContext,
    ) -> Result<Arc<Environment>> {
        let spec = fingerprint::environment_spec(&project.defaults, &callable.function);
        if let Some(environment) = given.find(self, &spec) {
            return Ok(environment);
        }
        let context = context.clone();
        let told = move |event: EnvironmentEvent| {
            if !matches!(event, EnvironmentEvent::Ready { .. }) {
                let (stream, text) = (LogStream::System, event.to_string());
                context.emit(Event::Log { stream, model: None, file: None, line: None, text });
            }
        };
        let made = self.functions.environment(&spec, &told).await;
        let environment = made.map_err(|error| Error::other(&error))?;
        given.note(spec, &environment);
        Ok(environment)
    }
}
