//! Aliases and URLs of functions that are deployed without a project.

use headwater_function_store::{
    FunctionChange, FunctionUrl, QualifierChange, StoredFunction, UrlAuth, UrlOptions,
};
use headwater_model::{ErrorCode, Principal, Problem, ResultExt};

use crate::standalone_function::{LATEST, StandaloneFunctions};

/// A change of the URL of a function or of an alias.
#[derive(Debug, Clone)]
pub struct FunctionUrlChange {
    /// The authentication of requests. If it is `None`, it is not changed.
    pub auth: Option<UrlAuth>,
    /// The other settings. Settings that are `None` are not changed.
    pub settings: UrlOptions,
    /// If true, the URL must exist; if false, it must not exist; `None` accepts both.
    pub exists: Option<bool>,
}

impl StandaloneFunctions {
    /// Deletes an alias of a function, with its settings.
    ///
    /// Errors: `function_not_found`.
    pub async fn delete_alias(
        &self,
        principal: &Principal,
        name: &str,
        alias: &str,
    ) -> Result<(), Problem> {
        self.get(principal, name).await?.alias(alias).or_problem()?;
        let change = FunctionChange::DeleteAlias(alias.to_owned());
        self.change(principal, name, change.into()).await.map(drop)
    }

    /// Returns the URL of a function or of its alias.
    ///
    /// Errors: `function_not_found`, even if only the function's URL does not exist.
    pub async fn get_url(
        &self,
        principal: &Principal,
        name: &str,
        alias: Option<&str>,
    ) -> Result<FunctionUrl, Problem> {
        url_of(&self.get(principal, name).await?, alias)
    }

    /// Creates the URL of a function or of its alias, or changes an existing URL.
    ///
    /// Errors: `already_exists`, `function_not_found`; `invalid_argument` for a new URL without
    /// `auth`.
    pub async fn set_url(
        &self,
        principal: &Principal,
        name: &str,
        alias: Option<&str>,
        change: FunctionUrlChange,
    ) -> Result<FunctionUrl, Problem> {
        let function = self.get(principal, name).await?;
        let FunctionUrlChange { auth, settings, exists } = change;
        let found = url_of(&function, alias);
        let change = if exists.unwrap_or(found.is_ok()) {
            found?;
            QualifierChange::UpdateUrl(auth, settings)
        } else {
            let message = "a new URL needs `auth`";
            let missing = || {
                let problem = Problem::new(ErrorCode::InvalidArgument, message);
                problem.with_hint("Set `auth` to `none` or `iam`.")
            };
            QualifierChange::CreateUrl(auth.ok_or_else(missing)?, settings)
        };
        let change = FunctionChange::Qualifier(alias.unwrap_or(LATEST).to_owned(), change);
        url_of(&self.change(principal, name, change.into()).await?, alias)
    }

    /// Deletes the URL of a function or of its alias.
    ///
    /// Errors: `function_not_found`, even if only the function's URL does not exist.
    pub async fn delete_url(
        &self,
        principal: &Principal,
        name: &str,
        alias: Option<&str>,
    ) -> Result<(), Problem> {
        let qualifier = alias.unwrap_or(LATEST).to_owned();
        let change = FunctionChange::Qualifier(qualifier, QualifierChange::DeleteUrl);
        self.change(principal, name, change.into()).await.map(drop)
    }
}

fn url_of(function: &StoredFunction, alias: Option<&str>) -> Result<FunctionUrl, Problem> {
    let settings = function.settings_of(alias);
    settings.and_then(|settings| settings.url.clone()).ok_or_else(|| {
        let name = &function.name;
        let (called, option) = match alias {
            Some(alias) => (format!("{name}:{alias}"), format!(" --alias {alias}")),
            None => (name.clone(), String::new()),
        };
        let message = format!("function `{called}` has no URL");
        let create = format!("headwater function url create {name}{option} --auth iam");
        let hint = format!("Create it with `{create}`, or with `--auth none` for every client.");
        Problem::new(ErrorCode::FunctionNotFound, message).with_hint(hint)
    })
}
