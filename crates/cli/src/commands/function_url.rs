//! `headwater function url`: HTTP URLs of functions without a project.

use headwater_model::{ErrorCode, FunctionUrlAuth, FunctionUrlConfig, SetFunctionUrl};
use hyper::Method;

use super::branch::removed_if_exists;
use crate::api::{ApiClient, segment};
use crate::api_output;
use crate::arguments::{
    FunctionUrl, FunctionUrlCreate, FunctionUrlName, FunctionUrlRm, FunctionUrlUpdate,
    UrlAuthArgument,
};
use crate::context::Context;
use crate::error::{self, Result};
use crate::lake::Lake;
use crate::output;

/// Runs `headwater function url`.
pub async fn url(context: &Context, api: &ApiClient, arguments: FunctionUrl) -> Result<()> {
    match arguments {
        FunctionUrl::Create(FunctionUrlCreate { of, auth, stream }) => {
            let (auth, stream) = (Some(auth_of(auth)), Some(stream));
            let request = SetFunctionUrl { auth, stream, exists: Some(false) };
            set(context, api, &of, &request).await
        }
        FunctionUrl::Update(FunctionUrlUpdate { of, auth, stream, no_stream }) => {
            let stream = (stream || no_stream).then_some(stream);
            let auth = auth.map(auth_of);
            if auth.is_none() && stream.is_none() {
                return Err(error::invalid("no setting of the URL is given")
                    .with_hint("Add `--auth`, `--stream` or `--no-stream`."));
            }
            let request = SetFunctionUrl { auth, stream, exists: Some(true) };
            set(context, api, &of, &request).await
        }
        FunctionUrl::Get(of) => {
            let config: FunctionUrlConfig = api.get(path(&of)).await?;
            show(context, &config)
        }
        FunctionUrl::Rm(FunctionUrlRm { of, if_exists }) => {
            let deletion = api.delete(path(&of)).await;
            let missing = if_exists.then_some(ErrorCode::FunctionNotFound);
            removed_if_exists(context, "URL of function", &called(&of), missing, deletion)
        }
    }
}

async fn set(
    context: &Context,
    api: &ApiClient,
    of: &FunctionUrlName,
    request: &SetFunctionUrl,
) -> Result<()> {
    let config: FunctionUrlConfig = api.call(Method::PUT, path(of), request).await?;
    show(context, &config)
}

fn auth_of(argument: UrlAuthArgument) -> FunctionUrlAuth {
    match argument {
        UrlAuthArgument::None => FunctionUrlAuth::None,
        UrlAuthArgument::Iam => FunctionUrlAuth::Iam,
    }
}

/// Prints the URL, or its path if the server's HTTP address is not known.
fn show(context: &Context, config: &FunctionUrlConfig) -> Result<()> {
    if api_output::is_printed(context, config) {
        return Ok(());
    }
    let (server, note) = match context.lake()? {
        Lake::Remote(remote) => (remote.profile.url.trim_end_matches('/').to_owned(), None),
        Lake::Folder(_) => {
            let note = "the path is below the HTTP address of `headwater serve --http`";
            (String::new(), Some(note))
        }
    };
    output::line(format!("{server}{}", config.path));
    if let Some(note) = note {
        context.style.say(note);
    }
    Ok(())
}

fn path(of: &FunctionUrlName) -> String {
    let path = format!("/v1/functions/{}/url", segment(&of.name));
    match &of.alias {
        Some(alias) => format!("{path}?alias={}", segment(alias)),
        None => path,
    }
}

fn called(of: &FunctionUrlName) -> String {
    match &of.alias {
        Some(alias) => format!("{}:{alias}", of.name),
        None => of.name.clone(),
    }
}
