//! Functions: create, get, list, update, delete, and their versions.

use std::collections::BTreeMap;

use headwater_model::ErrorCode;
use headwater_service::{FunctionChange, FunctionUpdate, Service};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::code_input::CodeInput;
use crate::configuration::{ConfigurationRequest, configuration, defaults};
use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::layer::attach;
use crate::pagination::page;
use crate::request::LambdaRequest;

/// Maximum number of attempts to apply an update while other requests change the same function.
const UPDATE_ATTEMPTS: u32 = 20;

/// The body of `CreateFunction`, without the settings.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateFunctionRequest {
    function_name: String,
    code: CodeInput,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// The body of `UpdateFunctionCode`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateCodeRequest {
    #[serde(flatten)]
    code: CodeInput,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(rename = "RevisionId")]
    revision: Option<String>,
}

/// The body of `PublishVersion`.
#[derive(Deserialize)]
struct PublishVersionRequest {
    #[serde(rename = "Description")]
    description: Option<String>,
    #[serde(rename = "CodeSha256")]
    code_sha256: Option<String>,
    #[serde(rename = "RevisionId")]
    revision: Option<String>,
}

pub(crate) async fn create(service: &Service, request: &LambdaRequest) -> Result<Value> {
    let create: CreateFunctionRequest = request.parse()?;
    let settings: ConfigurationRequest = request.parse()?;
    let name = FunctionName::parse(&create.function_name)?.name;
    let functions = service.invocations().standalone();
    // Call `get` first: it also checks the right to deploy, before an archive is read from a
    // bucket.
    match functions.get(&request.principal, &name).await {
        Ok(_) => return Err(already_exists(&name)),
        Err(problem) if problem.code != ErrorCode::FunctionNotFound => return Err(problem.into()),
        Err(_) => {}
    }
    let layers = settings.layers.clone();
    let (settings, mut attributes) = settings.apply(defaults(), BTreeMap::new())?;
    attach(service, request, layers.as_deref(), &mut attributes).await?;
    let files = create.code.read(service, request).await?;
    let mut changes = vec![
        FunctionChange::Settings(Box::new(settings), attributes),
        FunctionChange::Tag(create.tags),
    ];
    changes.extend(create.publish.then_some(FunctionChange::Publish(None)));
    let created = functions.create(&request.principal, &name, files, changes).await;
    let function = created.map_err(|problem| match problem.code {
        ErrorCode::AlreadyExists => already_exists(&name),
        _ => problem.into(),
    })?;
    let mut version = function.latest;
    version.version = function.published.filter(|_| create.publish);
    Ok(configuration(&name, &version, None))
}

fn already_exists(name: &str) -> LambdaError {
    let message = format!("Function already exist: {name}");
    LambdaError::new(409, "ResourceConflictException", message)
}

pub(crate) async fn list(service: &Service, request: &LambdaRequest) -> Result<Value> {
    let functions = service.invocations().standalone().list(&request.principal).await?;
    let all_versions = request.query("FunctionVersion") == Some("ALL");
    let mut items = Vec::new();
    for function in functions {
        items.push(configuration(&function.name, &function.latest, Some("$LATEST")));
        if all_versions {
            let stored = service.invocations().standalone();
            let (_, versions) = stored.stored_versions(&request.principal, &function.name).await?;
            let shown = |version| published(&function.name, version);
            items.extend(versions.iter().map(shown));
        }
    }
    if !all_versions {
        for item in &mut items {
            let name = item["FunctionName"].as_str().unwrap_or_default().to_owned();
            item["FunctionArn"] = arn(&name, None).into();
        }
    }
    page(request, "Functions", items)
}

fn published(name: &str, version: &headwater_service::StoredVersion) -> Value {
    configuration(name, version, Some(&version.qualifier()))
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let name = request.qualified(name)?;
    let qualifier = name.qualifier.as_deref();
    let functions = service.invocations().standalone();
    let (function, version) = functions.version(&request.principal, &name.name, qualifier).await?;
    let mut answer = json!({
        "Configuration": configuration(&name.name, &version, qualifier),
        "Code": {"RepositoryType": "S3"},
    });
    if !function.tags.is_empty() {
        answer["Tags"] = json!(function.tags);
    }
    if let Some(limit) = function.concurrency {
        answer["Concurrency"] = json!({"ReservedConcurrentExecutions": limit});
    }
    Ok(answer)
}

pub(crate) async fn configuration_of(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
) -> Result<Value> {
    let qualifier = name.qualifier.as_deref();
    let functions = service.invocations().standalone();
    let (_, version) = functions.version(&request.principal, &name.name, qualifier).await?;
    Ok(configuration(&name.name, &version, qualifier))
}

pub(crate) async fn configuration_by_name(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    configuration_of(service, request, &request.qualified(name)?).await
}

pub(crate) async fn update_configuration(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let update: ConfigurationRequest = request.parse()?;
    let functions = service.invocations().standalone();
    let mut attempts = 1;
    loop {
        let latest = functions.get(&request.principal, &name.name).await?.latest;
        // Settings that the request does not contain must be kept. So send the revision: the change
        // fails if another request has changed the settings since they were read here.
        let revision = update.revision.clone().unwrap_or_else(|| latest.revision());
        let (settings, mut attributes) = update.apply(latest.settings, latest.attributes)?;
        attach(service, request, update.layers.as_deref(), &mut attributes).await?;
        let changes = vec![FunctionChange::Settings(Box::new(settings), attributes)];
        let change = FunctionUpdate { files: None, changes, revision: Some(revision) };
        match functions.change(&request.principal, &name.name, change).await {
            Err(problem)
                if problem.code == ErrorCode::PreconditionFailed
                    && update.revision.is_none()
                    && attempts < UPDATE_ATTEMPTS =>
            {
                attempts += 1;
            }
            changed => return Ok(configuration(&name.name, &changed?.latest, None)),
        }
    }
}

pub(crate) async fn update_code(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let update: UpdateCodeRequest = request.parse()?;
    let functions = service.invocations().standalone();
    let mut latest = functions.get(&request.principal, &name.name).await?.latest;
    let files = update.code.read(service, request).await?;
    if update.dry_run {
        latest.code = files.code.code;
        return Ok(configuration(&name.name, &latest, None));
    }
    let publish = update.publish.then_some(FunctionChange::Publish(None));
    let is_published = publish.is_some();
    let update = FunctionUpdate {
        files: Some(files),
        changes: publish.into_iter().collect(),
        revision: update.revision,
    };
    let changed = functions.change(&request.principal, &name.name, update).await?;
    let version = changed.published.filter(|_| is_published);
    let qualifier = version.map(|version| version.to_string());
    let mut latest = changed.latest;
    latest.version = version;
    Ok(configuration(&name.name, &latest, qualifier.as_deref()))
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    let name = request.qualified(name)?;
    let functions = service.invocations().standalone();
    let Some(qualifier) = name.qualifier else {
        return Ok(functions.delete(&request.principal, &name.name).await?);
    };
    let version = qualifier.parse::<u64>().map_err(|_| {
        LambdaError::invalid(
            "DeleteFunction accepts only the number of a version as the Qualifier.",
        )
    })?;
    let change = FunctionChange::DeleteVersion(version).into();
    functions.change(&request.principal, &name.name, change).await?;
    Ok(())
}

pub(crate) async fn publish(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let publish: PublishVersionRequest = request.parse()?;
    let functions = service.invocations().standalone();
    if let Some(expected) = &publish.code_sha256 {
        let latest = functions.get(&request.principal, &name.name).await?.latest;
        if latest.code.sha256 != *expected {
            let message = format!(
                "CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({})",
                latest.code.sha256
            );
            return Err(LambdaError::invalid(message));
        }
    }
    let description = publish.description.filter(|text| !text.is_empty());
    let changes = vec![FunctionChange::Publish(description)];
    let update = FunctionUpdate { files: None, changes, revision: publish.revision };
    let changed = functions.change(&request.principal, &name.name, update).await?;
    let number = changed.published.map(|version| version.to_string());
    let name = FunctionName { qualifier: number, ..name };
    configuration_of(service, request, &name).await
}

pub(crate) async fn list_versions(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let functions = service.invocations().standalone();
    let (function, versions) = functions.stored_versions(&request.principal, &name.name).await?;
    let mut items = vec![published(&name.name, &function.latest)];
    items.extend(versions.iter().map(|version| published(&name.name, version)));
    page(request, "Versions", items)
}

/// Returns an empty configuration: code signing is not supported.
pub(crate) async fn code_signing(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    service.invocations().standalone().get(&request.principal, &name.name).await?;
    Ok(json!({"FunctionName": name.name, "CodeSigningConfigArn": ""}))
}
