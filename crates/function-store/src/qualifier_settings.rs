//! Settings of a version or alias: its URL, its asynchronous calls, its provisioned instances, and
//! its policy.

use std::collections::BTreeMap;

use headwater_model::{Actor, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::change::ChangeContext;
use crate::function::LATEST;
use crate::{Error, Result, StoredFunction};

/// Maximum number of statements of a policy, and maximum size of a statement in bytes.
const STATEMENTS_MAX: usize = 100;
const STATEMENT_BYTES_MAX: usize = 4 << 10;

/// The settings of a version, an alias or the latest state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QualifierSettings {
    /// The URL, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<FunctionUrl>,
    /// The settings of asynchronous calls, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoke: Option<EventInvokeConfig>,
    /// The provisioned concurrency, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<ProvisionedConfig>,
    /// The statements of the policy, by id. Clients can store and read these statements, which
    /// grant no rights.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policy: BTreeMap<String, Value>,
}

/// The provisioned concurrency of a version or alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedConfig {
    /// Number of instances that are started before calls and kept.
    pub count: u32,
    /// Time of the last change.
    pub modified: Timestamp,
}

/// The authentication of requests to a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAuth {
    /// No authentication: every client may call the function.
    #[serde(rename = "NONE")]
    None,
    /// A signature with an access key of a user that may call the function.
    #[serde(rename = "AWS_IAM")]
    Iam,
}

/// The way in which a URL returns the response of its function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvokeMode {
    /// The response is returned as a whole, after the call.
    #[default]
    #[serde(rename = "BUFFERED")]
    Buffered,
    /// The response is returned in parts, while the function runs.
    #[serde(rename = "RESPONSE_STREAM")]
    ResponseStream,
}

/// The options of a request that creates or changes a function's URL. `None` uses the default, or
/// keeps the current value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlOptions {
    /// Rules for requests of web pages of other origins.
    pub cors: Option<Cors>,
    /// The way in which responses are returned.
    pub mode: Option<InvokeMode>,
}

/// An HTTP URL that calls a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionUrl {
    /// The authentication of requests.
    pub auth: UrlAuth,
    /// The CORS rules, for requests of web pages of other origins; `None` allows no requests of
    /// other origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// The way in which responses are returned.
    #[serde(default)]
    pub mode: InvokeMode,
    /// Time of the URL's creation.
    pub created: Timestamp,
    /// Time of the last change.
    pub modified: Timestamp,
    /// Identity that made the last change. Requests without a signature call the function with this
    /// identity's rights.
    pub actor: Actor,
}

/// CORS rules: rules for requests of web pages of other origins, in the form of Lambda's API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct Cors {
    /// True if requests may include cookies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Headers that a page may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_headers: Option<Vec<String>>,
    /// Methods that a page may use; `*` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_methods: Option<Vec<String>>,
    /// Origins of pages; `*` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_origins: Option<Vec<String>>,
    /// Headers of responses that a page may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expose_headers: Option<Vec<String>>,
    /// Time in seconds for which a browser caches these rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}

/// The settings of asynchronous calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInvokeConfig {
    /// Retries of a failed call; `None` uses the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Age in seconds at which a call is no longer retried; `None` uses the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
    /// The destination that receives a record of each successful call: a function, with a version
    /// or alias, or an address such as `queue://orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// The destination that receives a record of each call that failed after its last retry.
    /// It has the form of `on_success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// Identity that set `on_success`, with whose rights records are sent to an address.
    #[serde(default)]
    pub success_actor: Actor,
    /// Identity that set `on_failure`, with whose rights records are sent to an address.
    #[serde(default)]
    pub failure_actor: Actor,
    /// Time of the last change.
    pub modified: Timestamp,
}

/// A change of the settings of a version or alias.
#[derive(Debug, Clone, PartialEq)]
pub enum QualifierChange {
    /// Creates the URL.
    CreateUrl(UrlAuth, UrlOptions),
    /// Replaces only the settings of the URL that this value contains.
    UpdateUrl(Option<UrlAuth>, UrlOptions),
    /// Deletes the URL.
    DeleteUrl,
    /// Replaces all settings of asynchronous calls, and sets the time of the last change.
    PutInvoke(EventInvokeConfig),
    /// Replaces only the settings of asynchronous calls that this value contains.
    UpdateInvoke(EventInvokeConfig),
    /// Deletes the settings of asynchronous calls.
    DeleteInvoke,
    /// Sets the number of provisioned instances. 0 removes the setting, if it exists.
    PutProvisioned(u32),
    /// Removes the number of provisioned instances.
    DeleteProvisioned,
    /// Adds a statement to the policy, under its id.
    AddPermission(String, Value),
    /// Removes a statement.
    RemovePermission(String),
}

impl EventInvokeConfig {
    /// Returns the configuration after a change by `actor`. Settings that `change` does not contain
    /// are unchanged.
    fn updated(self, change: EventInvokeConfig, actor: &Actor) -> Self {
        // A destination keeps the identity that set it if the change sets only other settings.
        let by = |new: &Option<String>, old: Actor| {
            if new.is_some() { actor.clone() } else { old }
        };
        EventInvokeConfig {
            success_actor: by(&change.on_success, self.success_actor),
            failure_actor: by(&change.on_failure, self.failure_actor),
            retries: change.retries.or(self.retries),
            max_age_seconds: change.max_age_seconds.or(self.max_age_seconds),
            on_success: change.on_success.or(self.on_success),
            on_failure: change.on_failure.or(self.on_failure),
            modified: change.modified,
        }
    }
}

impl StoredFunction {
    /// Returns the settings of a version or alias, or of the latest state if `qualifier` is `None`.
    pub fn settings_of(&self, qualifier: Option<&str>) -> Option<&QualifierSettings> {
        self.qualifiers.get(qualifier.unwrap_or(LATEST))
    }

    /// Returns a string that identifies the current statements of a policy.
    pub fn policy_revision(&self, qualifier: Option<&str>) -> String {
        crate::function::revision(&self.settings_of(qualifier).map(|settings| &settings.policy))
    }

    /// Returns the error if a version or alias lacks a setting that the request needs.
    fn missing(&self, qualifier: &str, what: &str) -> Error {
        Error::NoSetting { name: self.called(qualifier), what: what.to_owned() }
    }

    /// Returns the function's name with the version or alias, as in `price:live`.
    fn called(&self, qualifier: &str) -> String {
        match qualifier {
            LATEST => self.name.clone(),
            _ => format!("{}:{qualifier}", self.name),
        }
    }
}

impl QualifierChange {
    /// Applies the change to the settings of a version or alias.
    pub(crate) fn apply(
        self,
        qualifier: &str,
        to: &mut StoredFunction,
        with: &ChangeContext<'_>,
    ) -> Result<()> {
        to.resolve(qualifier, 1.0)?;
        let mut settings = to.qualifiers.get(qualifier).cloned().unwrap_or_default();
        let actor = with.author.actor.clone();
        match self {
            QualifierChange::CreateUrl(auth, UrlOptions { cors, mode }) => {
                check_url(qualifier)?;
                if settings.url.is_some() {
                    return Err(url_exists(to, qualifier));
                }
                let (created, modified) = (with.now, with.now);
                let mode = mode.unwrap_or_default();
                settings.url = Some(FunctionUrl { auth, cors, mode, created, modified, actor });
            }
            QualifierChange::UpdateUrl(auth, UrlOptions { cors, mode }) => {
                let mut url = settings.url.take().ok_or_else(|| to.missing(qualifier, "URL"))?;
                url.auth = auth.unwrap_or(url.auth);
                url.cors = cors.or(url.cors);
                url.mode = mode.unwrap_or(url.mode);
                settings.url = Some(FunctionUrl { modified: with.now, actor, ..url });
            }
            QualifierChange::DeleteUrl => {
                settings.url.take().ok_or_else(|| to.missing(qualifier, "URL"))?;
            }
            QualifierChange::PutInvoke(config) => {
                settings.invoke = Some(EventInvokeConfig {
                    success_actor: actor.clone(),
                    failure_actor: actor,
                    modified: with.now,
                    ..config
                });
            }
            QualifierChange::UpdateInvoke(config) => {
                let old = settings.invoke.take().ok_or_else(|| to.missing(qualifier, INVOKE))?;
                let config = EventInvokeConfig { modified: with.now, ..config };
                settings.invoke = Some(old.updated(config, &actor));
            }
            QualifierChange::DeleteInvoke => {
                settings.invoke.take().ok_or_else(|| to.missing(qualifier, INVOKE))?;
            }
            QualifierChange::PutProvisioned(count) => {
                settings.provisioned = provisioned(to, qualifier, count, with.now)?;
            }
            QualifierChange::DeleteProvisioned => {
                settings.provisioned.take().ok_or_else(|| to.missing(qualifier, PROVISIONED))?;
            }
            QualifierChange::AddPermission(id, statement) => {
                add_permission(&mut settings, id, statement)?;
            }
            QualifierChange::RemovePermission(id) => {
                settings
                    .policy
                    .remove(&id)
                    .ok_or_else(|| to.missing(qualifier, &format!("permission `{id}`")))?;
            }
        }
        if settings == QualifierSettings::default() {
            to.qualifiers.remove(qualifier);
        } else {
            to.qualifiers.insert(qualifier.to_owned(), settings);
        }
        Ok(())
    }
}

const INVOKE: &str = "event invoke config";
const PROVISIONED: &str = "provisioned concurrency config";

/// Maximum number of provisioned instances of a version or alias.
const PROVISIONED_MAX: u32 = 10_000;

/// Returns the setting for a number of provisioned instances; `None` for 0.
///
/// Errors: `invalid_argument` if the sum over all versions and aliases exceeds the function's limit
/// on concurrent calls.
fn provisioned(
    to: &StoredFunction,
    qualifier: &str,
    count: u32,
    modified: Timestamp,
) -> Result<Option<ProvisionedConfig>> {
    let others = to.qualifiers.iter().filter(|(name, _)| *name != qualifier);
    let others = others.filter_map(|(_, settings)| settings.provisioned.as_ref());
    let sum = others.fold(count, |sum, config| sum.saturating_add(config.count));
    let limit = to.concurrency.unwrap_or(PROVISIONED_MAX).min(PROVISIONED_MAX);
    if count > 0 && sum > limit {
        let message = format!(
            "function `{}` would have {sum} provisioned instances (limit {limit})",
            to.name
        );
        let hint = "Request fewer instances, or raise the function's reserved concurrency";
        return Err(Error::invalid(message, hint));
    }
    Ok((count > 0).then_some(ProvisionedConfig { count, modified }))
}

fn url_exists(of: &StoredFunction, qualifier: &str) -> Error {
    let option = match qualifier {
        LATEST => String::new(),
        alias => format!(" --alias {alias}"),
    };
    let hint = format!("Change it with `headwater function url update {}{option}`", of.name);
    Error::exists(format!("the URL of `{}`", of.called(qualifier)), hint)
}

fn check_url(qualifier: &str) -> Result<()> {
    if qualifier.parse::<u64>().is_ok() {
        let message = format!("version {qualifier} cannot have a URL");
        return Err(Error::invalid(
            message,
            "Create an alias of the version, and a URL of the alias",
        ));
    }
    Ok(())
}

fn add_permission(settings: &mut QualifierSettings, id: String, statement: Value) -> Result<()> {
    if settings.policy.contains_key(&id) {
        let what = format!("the statement `{}`", crate::paths::printable(&id));
        return Err(Error::exists(what, crate::layer::STATEMENT_EXISTS));
    }
    if settings.policy.len() >= STATEMENTS_MAX {
        let message = format!("the policy has reached the limit of {STATEMENTS_MAX} statements");
        return Err(Error::invalid(message, "Remove unused statements"));
    }
    let bytes = statement.to_string().len();
    if bytes > STATEMENT_BYTES_MAX {
        let message = format!(
            "the statement has {bytes} bytes, more than the limit of {STATEMENT_BYTES_MAX}"
        );
        return Err(Error::invalid(message, "Add a shorter statement"));
    }
    settings.policy.insert(id, statement);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_model::{
        ErrorCode, FixedClock, FunctionAlias, ProjectFiles, SystemClock, ToProblem,
    };
    use headwater_store::MemoryStore;

    use super::*;
    use crate::{Author, FunctionChange, FunctionStore, FunctionUpdate};

    fn author() -> Author {
        Author { name: "ada".to_owned(), actor: Actor::Owner }
    }

    async fn change(store: &FunctionStore, change: FunctionChange) -> Result<StoredFunction> {
        store.change("f", &change.into(), &author()).await
    }

    #[tokio::test]
    async fn settings_of_an_alias_end_with_it() {
        let clock = FixedClock::at("2026-03-01T00:00:00Z".parse().expect("a time"));
        let store = FunctionStore::new(Arc::new(MemoryStore::new()), Arc::new(clock));
        let files = ProjectFiles::from([("app.py".to_owned(), "one".into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        store
            .create("f", code, &[FunctionChange::Publish(None)], &author())
            .await
            .expect("created");
        let alias = FunctionAlias { version: Some(1), ..FunctionAlias::default() };
        change(&store, FunctionChange::CreateAlias("live".into(), alias)).await.expect("an alias");
        let with = |name: &str, one: QualifierChange| FunctionChange::Qualifier(name.into(), one);
        let url = || QualifierChange::CreateUrl(UrlAuth::Iam, UrlOptions::default());
        let function = change(&store, with("live", url())).await.expect("a URL");
        let found = function.settings_of(Some("live")).and_then(|it| it.url.as_ref());
        assert_eq!(found.map(|url| url.auth), Some(UrlAuth::Iam));
        assert_eq!(function.settings_of(None), None);
        let large = serde_json::json!("x".repeat(5_000));
        for (failing, code) in [
            (with("live", url()), ErrorCode::AlreadyExists),
            (with("other", url()), ErrorCode::FunctionNotFound),
            (with("1", url()), ErrorCode::InvalidArgument),
            (with("1", QualifierChange::DeleteInvoke), ErrorCode::FunctionNotFound),
            (
                with("1", QualifierChange::UpdateUrl(None, UrlOptions::default())),
                ErrorCode::FunctionNotFound,
            ),
            (with("1", QualifierChange::RemovePermission("a".into())), ErrorCode::FunctionNotFound),
            (
                with("1", QualifierChange::AddPermission("a".into(), large)),
                ErrorCode::InvalidArgument,
            ),
        ] {
            assert_eq!(change(&store, failing).await.expect_err("rejected").code(), code);
        }
        let without = change(&store, with("1", QualifierChange::DeleteUrl)).await;
        assert_eq!(without.expect_err("no URL").to_string(), "function `f:1` has no URL");
        change(&store, FunctionChange::DeleteAlias("live".into())).await.expect("deleted");
        assert!(store.get("f").await.expect("a function").qualifiers.is_empty());
    }

    #[tokio::test]
    async fn provisioned_instances_are_at_most_the_concurrent_calls() {
        let store = FunctionStore::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock));
        let files = ProjectFiles::from([("app.py".to_owned(), "one".into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        let changes = [FunctionChange::Publish(None), FunctionChange::Concurrency(Some(3))];
        store.create("f", code, &changes, &author()).await.expect("created");
        let put = |name: &str, count| {
            FunctionChange::Qualifier(name.into(), QualifierChange::PutProvisioned(count))
        };
        let function = change(&store, put("1", 2)).await.expect("provisioned");
        let config = function.settings_of(Some("1")).and_then(|it| it.provisioned.as_ref());
        assert_eq!(config.map(|config| config.count), Some(2));
        let error = change(&store, put(LATEST, 2)).await.expect_err("too many");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        change(&store, put(LATEST, 1)).await.expect("provisioned");
        let lower = FunctionChange::Concurrency(Some(2));
        let error = change(&store, lower.clone()).await.expect_err("too low");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains("lower than its provisioned concurrency 3"), "{error}");
        let changes = vec![lower, put("1", 1)];
        let both = FunctionUpdate { changes, ..FunctionUpdate::default() };
        store.change("f", &both, &author()).await.expect("both numbers are lower");
        change(&store, FunctionChange::Concurrency(Some(0))).await.expect("calls are stopped");
        change(&store, FunctionChange::Concurrency(None)).await.expect("no limit");
        let function = change(&store, put("1", 0)).await.expect("removed");
        assert_eq!(function.settings_of(Some("1")), None);
        let delete = FunctionChange::Qualifier("1".into(), QualifierChange::DeleteProvisioned);
        let error = change(&store, delete).await.expect_err("no setting");
        assert_eq!(error.code(), ErrorCode::FunctionNotFound);
    }

    #[tokio::test]
    async fn a_change_of_retries_keeps_the_identity_of_a_destination() {
        let store = FunctionStore::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock));
        let files = ProjectFiles::from([("app.py".to_owned(), "one".into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        store.create("f", code, &[], &author()).await.expect("created");
        let config = |retries, on_success: Option<&str>| EventInvokeConfig {
            retries,
            max_age_seconds: None,
            on_success: on_success.map(str::to_owned),
            on_failure: None,
            success_actor: Actor::default(),
            failure_actor: Actor::default(),
            modified: Timestamp::UNIX_EPOCH,
        };
        let set = async |change: QualifierChange, actor: Actor| {
            let by = Author { name: "eve".to_owned(), actor };
            let change = FunctionChange::Qualifier(LATEST.into(), change);
            let function = store.change("f", &change.into(), &by).await.expect("changed");
            function.settings_of(None).and_then(|it| it.invoke.clone()).expect("a config")
        };
        let put = QualifierChange::PutInvoke(config(None, Some("queue://q")));
        let stored = set(put, Actor::Anonymous).await;
        assert_eq!(stored.success_actor, Actor::Anonymous);
        let update = QualifierChange::UpdateInvoke(config(Some(3), None));
        let stored = set(update, Actor::Owner).await;
        assert_eq!(stored.on_success.as_deref(), Some("queue://q"));
        assert_eq!(
            (stored.success_actor, stored.failure_actor),
            (Actor::Anonymous, Actor::Anonymous)
        );
        let update = QualifierChange::UpdateInvoke(config(None, Some("queue://r")));
        assert_eq!(set(update, Actor::Owner).await.success_actor, Actor::Owner);
    }
}
