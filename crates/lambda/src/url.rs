//! Configurations of function URLs.

use headwater_service::{Cors, FunctionChange, FunctionUrl, QualifierChange, Service, UrlAuth};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::configuration::moment;
use crate::error::{LambdaError, Result};
use crate::name::{FunctionName, arn};
use crate::page::page;
use crate::request::LambdaRequest;

/// The first part of the paths of URLs.
pub const URL_ROOT: &str = "lambda-url";

/// Limits of the rules for other origins.
const CORS_ITEMS_MAX: usize = 100;
const CORS_TEXT_MAX: usize = 253;
const CORS_AGE_MAX: u32 = 86_400;

/// The body of `CreateFunctionUrlConfig` and `UpdateFunctionUrlConfig`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UrlRequest {
    auth_type: Option<String>,
    cors: Option<Cors>,
    invoke_mode: Option<String>,
}

impl UrlRequest {
    fn read(request: &LambdaRequest) -> Result<(Option<UrlAuth>, Option<Cors>)> {
        let UrlRequest { auth_type, cors, invoke_mode } = request.parse()?;
        if invoke_mode.is_some_and(|mode| mode != "BUFFERED") {
            return Err(LambdaError::invalid("Only the InvokeMode BUFFERED is supported."));
        }
        let auth = match auth_type.as_deref() {
            None => None,
            Some("NONE") => Some(UrlAuth::None),
            Some("AWS_IAM") => Some(UrlAuth::Iam),
            Some(_) => return Err(LambdaError::invalid("AuthType is NONE or AWS_IAM.")),
        };
        cors.as_ref().map(check_cors).transpose()?;
        Ok((auth, cors))
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
            return Err(LambdaError::invalid("Cors has a list or a value that is not accepted."));
        }
    }
    if cors.max_age.is_some_and(|seconds| seconds > CORS_AGE_MAX) {
        return Err(LambdaError::invalid(format!("MaxAge is at most {CORS_AGE_MAX} seconds.")));
    }
    Ok(())
}

pub(crate) async fn create(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (auth, cors) = UrlRequest::read(request)?;
    let auth = auth.ok_or_else(|| LambdaError::invalid("AuthType is NONE or AWS_IAM."))?;
    change(service, request, name, QualifierChange::CreateUrl(auth, cors)).await
}

pub(crate) async fn update(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (auth, cors) = UrlRequest::read(request)?;
    change(service, request, name, QualifierChange::UpdateUrl(auth, cors)).await
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
    let name = name.qualified(request.query("Qualifier"))?;
    let change = FunctionChange::Qualifier(name.qualifier_or_latest().to_owned(), change);
    let functions = service.invocations().deployed();
    let changed = functions.change(&request.principal, &name.name, change.into()).await?;
    let settings = changed.settings_of(name.qualifier.as_deref());
    let url = settings.and_then(|settings| settings.url.as_ref());
    Ok(url.map(|url| shape(request, &name, url)).unwrap_or_default())
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let name = name.qualified(request.query("Qualifier"))?;
    let function = service.invocations().deployed().get(&request.principal, &name.name).await?;
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
    let function = service.invocations().deployed().get(&request.principal, &name.name).await?;
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
    // The server may have several host names. The client has just used one that works for it.
    let host = request.header("host").unwrap_or("localhost");
    let scheme = request.scheme;
    let mut shape = json!({
        "FunctionUrl": format!("{scheme}://{host}/{URL_ROOT}/{called}/"),
        "FunctionArn": arn(&name.name, qualifier),
        "AuthType": url.auth,
        "CreationTime": moment(url.created),
        "LastModifiedTime": moment(url.modified),
        "InvokeMode": "BUFFERED",
    });
    if let Some(cors) = &url.cors {
        shape["Cors"] = json!(cors);
    }
    shape
}
