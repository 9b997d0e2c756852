//! Configurations of function URLs.

use headwater_service::{
    Cors, FunctionUrl, InvokeMode, QualifierChange, Service, UrlAuth, UrlOptions,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::configuration::lambda_time;
use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::pagination::page;
use crate::qualifier_settings;
use crate::request::LambdaRequest;

/// The first segment of the paths of function URLs.
pub const URL_ROOT: &str = "lambda-url";

/// Limits of CORS rules: values in a list, characters of a value, and `MaxAge` in seconds.
const CORS_ITEMS_MAX: usize = 100;
const CORS_TEXT_MAX: usize = 253;
const CORS_AGE_MAX: u32 = 86_400;

/// The body of `CreateFunctionUrlConfig` and `UpdateFunctionUrlConfig`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UrlConfigRequest {
    auth_type: Option<String>,
    cors: Option<Cors>,
    invoke_mode: Option<String>,
}

impl UrlConfigRequest {
    fn read(request: &LambdaRequest) -> Result<(Option<UrlAuth>, UrlOptions)> {
        let UrlConfigRequest { auth_type, cors, invoke_mode } = request.parse()?;
        let mode = match invoke_mode.as_deref() {
            None => None,
            Some("BUFFERED") => Some(InvokeMode::Buffered),
            Some("RESPONSE_STREAM") => Some(InvokeMode::ResponseStream),
            Some(_) => {
                let message = "InvokeMode must be BUFFERED or RESPONSE_STREAM.";
                return Err(LambdaError::invalid(message));
            }
        };
        let auth = match auth_type.as_deref() {
            None => None,
            Some("NONE") => Some(UrlAuth::None),
            Some("AWS_IAM") => Some(UrlAuth::Iam),
            Some(_) => return Err(LambdaError::invalid("AuthType must be NONE or AWS_IAM.")),
        };
        cors.as_ref().map(check_cors).transpose()?;
        Ok((auth, UrlOptions { cors, mode }))
    }
}

fn check_cors(cors: &Cors) -> Result<()> {
    let lists =
        [&cors.allow_headers, &cors.allow_methods, &cors.allow_origins, &cors.expose_headers];
    for list in lists.into_iter().flatten() {
        let is_usable = |text: &String| {
            !text.is_empty()
                && text.len() <= CORS_TEXT_MAX
                && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
        };
        if list.len() > CORS_ITEMS_MAX || !list.iter().all(is_usable) {
            return Err(LambdaError::invalid(format!(
                "Cors is not valid: a list has at most {CORS_ITEMS_MAX} values, each of 1 to \
                 {CORS_TEXT_MAX} characters without spaces and commas."
            )));
        }
    }
    if cors.max_age.is_some_and(|seconds| seconds > CORS_AGE_MAX) {
        return Err(LambdaError::invalid(format!(
            "MaxAge must be at most {CORS_AGE_MAX} seconds."
        )));
    }
    Ok(())
}

pub(crate) async fn create(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (auth, settings) = UrlConfigRequest::read(request)?;
    let auth = auth.ok_or_else(|| LambdaError::invalid("AuthType must be NONE or AWS_IAM."))?;
    change(service, request, name, QualifierChange::CreateUrl(auth, settings)).await
}

pub(crate) async fn update(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (auth, settings) = UrlConfigRequest::read(request)?;
    change(service, request, name, QualifierChange::UpdateUrl(auth, settings)).await
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    change(service, request, name, QualifierChange::DeleteUrl).await.map(drop)
}

async fn change(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
    change: QualifierChange,
) -> Result<Value> {
    let name = request.qualified(name)?;
    let changed = qualifier_settings::change(service, request, &name, change).await?;
    let settings = changed.settings_of(name.qualifier.as_deref());
    let url = settings.and_then(|settings| settings.url.as_ref());
    Ok(url.map(|url| shape(request, &name, url)).unwrap_or_default())
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (function, name) = qualifier_settings::get(service, request, name).await?;
    let settings = function.settings_of(name.qualifier.as_deref());
    let url = settings.and_then(|settings| settings.url.as_ref()).ok_or_else(|| {
        LambdaError::missing("The resource you requested does not exist: the function has no URL.")
    })?;
    Ok(shape(request, &name, url))
}

pub(crate) async fn list(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let function = service.invocations().standalone().get(&request.principal, &name.name).await?;
    let url = |(qualifier, settings): (&String, &headwater_service::QualifierSettings)| {
        let url = settings.url.as_ref()?;
        Some(shape(request, &name.with_qualifier(qualifier), url))
    };
    let items = function.qualifiers.iter().filter_map(url).collect();
    page(request, "FunctionUrlConfigs", items)
}

fn shape(request: &LambdaRequest, name: &FunctionName, url: &FunctionUrl) -> Value {
    let qualifier = name.qualifier.as_deref().filter(|qualifier| *qualifier != "$LATEST");
    let called = qualifier.map_or(name.name.clone(), |alias| format!("{}:{alias}", name.name));
    // The server may have several host names. Use the host name of this request, because the client
    // can reach this name.
    let host = request.header("host").unwrap_or("localhost");
    let scheme = request.scheme;
    let mut shape = json!({
        "FunctionUrl": format!("{scheme}://{host}/{URL_ROOT}/{called}/"),
        "FunctionArn": arn(&name.name, qualifier),
        "AuthType": url.auth,
        "CreationTime": lambda_time(url.created),
        "LastModifiedTime": lambda_time(url.modified),
        "InvokeMode": url.mode,
    });
    if let Some(cors) = &url.cors {
        shape["Cors"] = json!(cors);
    }
    shape
}
