//! Layers: publish, get, list and delete versions, their policies, and their use by functions.

use std::collections::BTreeMap;

use headwater_model::ErrorCode;
use headwater_service::{LAYERS, LayerChange, LayerVersion, Service, StoredLayer, UsedLayer};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::code_input::CodeInput;
use crate::configuration::lambda_time;
use crate::error::{LambdaError, Result};
use crate::function_name::{ACCOUNT, REGION};
use crate::pagination::page;
use crate::request::LambdaRequest;

/// Maximum number of layers of a function.
const LAYERS_MAX: usize = 5;

/// Values of a request that clients can store and read, but that have no effect.
const KEPT: [&str; 4] =
    ["Description", "CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"];
const KEPT_BYTES_MAX: usize = 4 << 10;

/// An operation on a layer, with the parameters from its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerOperation {
    List,
    Publish(String),
    ListVersions(String),
    Get(String, u64),
    Delete(String, u64),
    AddPermission(String, u64),
    GetPolicy(String, u64),
    RemovePermission(String, u64, String),
}

impl LayerOperation {
    /// Returns the operation of a path below `layers`.
    pub fn of(method: &Method, path: &[&str]) -> Option<Self> {
        use LayerOperation as Op;
        let number = |text: &str| text.parse::<u64>().ok();
        let operation = match (method.as_str(), path) {
            ("GET", []) => Op::List,
            ("POST", [name, "versions"]) => Op::Publish(layer_name(name)?),
            ("GET", [name, "versions"]) => Op::ListVersions(layer_name(name)?),
            ("GET", [name, "versions", at]) => Op::Get(layer_name(name)?, number(at)?),
            ("DELETE", [name, "versions", at]) => Op::Delete(layer_name(name)?, number(at)?),
            ("POST", [name, "versions", at, "policy"]) => {
                Op::AddPermission(layer_name(name)?, number(at)?)
            }
            ("GET", [name, "versions", at, "policy"]) => {
                Op::GetPolicy(layer_name(name)?, number(at)?)
            }
            ("DELETE", [name, "versions", at, "policy", id]) => {
                Op::RemovePermission(layer_name(name)?, number(at)?, (*id).to_owned())
            }
            _ => return None,
        };
        Some(operation)
    }

    /// Returns the status of a successful response.
    pub fn status(&self) -> http::StatusCode {
        match self {
            LayerOperation::Publish(_) | LayerOperation::AddPermission(..) => {
                http::StatusCode::CREATED
            }
            LayerOperation::Delete(..) | LayerOperation::RemovePermission(..) => {
                http::StatusCode::NO_CONTENT
            }
            _ => http::StatusCode::OK,
        }
    }

    /// Executes the operation and returns its response.
    pub async fn execute(self, service: &Service, request: &LambdaRequest) -> Result<Value> {
        use LayerOperation as Op;
        let layers = service.invocations().layers();
        let principal = &request.principal;
        match self {
            Op::List => list(service, request).await,
            Op::Publish(name) => publish(service, request, &name).await,
            Op::ListVersions(name) => {
                let layer = layers.get(principal, &name).await?;
                let versions = layer.versions.iter().rev();
                let items = versions.map(|(number, one)| shape(&name, *number, one)).collect();
                page(request, "LayerVersions", items)
            }
            Op::Get(name, number) => {
                let layer = layers.get(principal, &name).await?;
                Ok(with_content(&name, number, version(&layer, number)?))
            }
            Op::Delete(name, number) => {
                let deleted = layers.change(principal, &name, &LayerChange::Delete(number)).await;
                match deleted {
                    // As on AWS, deleting a version that does not exist succeeds.
                    Err(problem) if problem.code != ErrorCode::FunctionNotFound => {
                        Err(problem.into())
                    }
                    _ => Ok(Value::Null),
                }
            }
            Op::AddPermission(name, number) => {
                add_permission(service, request, &name, number).await
            }
            Op::GetPolicy(name, number) => {
                let layer = layers.get(principal, &name).await?;
                policy(version(&layer, number)?)
            }
            Op::RemovePermission(name, number, id) => {
                let change = LayerChange::RemovePermission(number, id);
                layers.change(principal, &name, &change).await?;
                Ok(Value::Null)
            }
        }
    }
}

/// Returns the name of a layer from its name or ARN.
fn layer_name(text: &str) -> Option<String> {
    let name = match text.split(':').collect::<Vec<_>>().as_slice() {
        [name] | ["arn", _, "lambda", _, _, "layer", name] => *name,
        _ => return None,
    };
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_name = !name.is_empty() && name.len() <= 140 && name.chars().all(is_usable);
    is_name.then(|| name.to_owned())
}

/// Returns the layer's name and the version's number in the ARN of a version.
fn version_of(arn: &str) -> Result<(String, u64)> {
    let parts = arn.rsplit_once(':');
    let parts = parts.and_then(|(layer, at)| Some((layer_name(layer)?, at.parse::<u64>().ok()?)));
    parts.filter(|_| arn.starts_with("arn:")).ok_or_else(|| {
        let shown: String = arn.chars().take(200).collect();
        LambdaError::invalid(format!("{shown} is not the ARN of a version of a layer."))
    })
}

fn arn(name: &str, number: Option<u64>) -> String {
    let number = number.map(|number| format!(":{number}")).unwrap_or_default();
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}{number}")
}

fn version(layer: &StoredLayer, number: u64) -> Result<&LayerVersion> {
    layer.versions.get(&number).ok_or_else(|| {
        let arn = arn(&layer.name, Some(number));
        LambdaError::missing(format!("The resource you requested does not exist: {arn}"))
    })
}

fn shape(name: &str, number: u64, version: &LayerVersion) -> Value {
    let mut shape = json!({
        "LayerVersionArn": arn(name, Some(number)),
        "Version": number,
        "CreatedDate": lambda_time(version.created),
    });
    for (key, value) in &version.attributes {
        shape[key] = value.clone();
    }
    shape
}

fn with_content(name: &str, number: u64, version: &LayerVersion) -> Value {
    let mut shape = shape(name, number, version);
    shape["LayerArn"] = arn(name, None).into();
    shape["Content"] = json!({"CodeSha256": version.code.sha256, "CodeSize": version.code.bytes});
    shape
}

async fn list(service: &Service, request: &LambdaRequest) -> Result<Value> {
    let layers = service.invocations().layers();
    // The operation that gets a version by its ARN has the same path as this operation.
    if request.query("find") == Some("LayerVersion") {
        let (name, number) = version_of(request.query("Arn").unwrap_or_default())?;
        let layer = layers.get(&request.principal, &name).await?;
        return Ok(with_content(&name, number, version(&layer, number)?));
    }
    let layers = layers.list(&request.principal).await?;
    let item = |layer: &StoredLayer| {
        let (number, latest) = layer.versions.iter().next_back()?;
        Some(json!({
            "LayerName": layer.name,
            "LayerArn": arn(&layer.name, None),
            "LatestMatchingVersion": shape(&layer.name, *number, latest),
        }))
    };
    page(request, "Layers", layers.iter().filter_map(item).collect())
}

/// The body of `PublishLayerVersion`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublishLayerRequest {
    content: CodeInput,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

async fn publish(service: &Service, request: &LambdaRequest, name: &str) -> Result<Value> {
    let PublishLayerRequest { content, mut others } = request.parse()?;
    others.retain(|key, value| KEPT.contains(&key.as_str()) && !value.is_null());
    if json!(others).to_string().len() > KEPT_BYTES_MAX {
        return Err(LambdaError::invalid(format!(
            "The description, license and compatible runtimes together are longer than \
             {KEPT_BYTES_MAX} bytes."
        )));
    }
    let layers = service.invocations().layers();
    layers.check_change(&request.principal, name).await?;
    let files = content.read(service, request).await?;
    let author = request.principal.author().to_owned();
    let change = LayerChange::Publish { code: files.code, author, attributes: others };
    let layer = layers.change(&request.principal, name, &change).await?;
    let (number, version) =
        layer.versions.iter().next_back().ok_or_else(|| {
            LambdaError::new(500, "ServiceException", "The version was not stored.")
        })?;
    Ok(with_content(name, *number, version))
}

/// The body of `AddLayerVersionPermission`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LayerPermissionRequest {
    statement_id: String,
    action: String,
    principal: String,
    organization_id: Option<String>,
}

async fn add_permission(
    service: &Service,
    request: &LambdaRequest,
    name: &str,
    number: u64,
) -> Result<Value> {
    let permission: LayerPermissionRequest = request.parse()?;
    let LayerPermissionRequest { statement_id, action, principal, organization_id } = permission;
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_id = !statement_id.is_empty()
        && statement_id.len() <= 100
        && statement_id.chars().all(is_usable);
    if !is_id || action != "lambda:GetLayerVersion" || principal.len() > 512 {
        let message = "StatementId, Action or Principal is not valid; the Action must be \
                       lambda:GetLayerVersion.";
        return Err(LambdaError::invalid(message));
    }
    let mut statement = json!({
        "Sid": statement_id,
        "Effect": "Allow",
        "Principal": if principal == "*" { json!("*") } else { json!({"AWS": principal}) },
        "Action": action,
        "Resource": arn(name, Some(number)),
    });
    if let Some(organization) = organization_id.filter(|text| text.len() <= 100) {
        statement["Condition"] = json!({"StringEquals": {"aws:PrincipalOrgID": organization}});
    }
    let change = LayerChange::AddPermission(number, statement_id, statement.clone());
    let layers = service.invocations().layers();
    let layer = layers.change(&request.principal, name, &change).await?;
    let policy = policy(version(&layer, number)?)?;
    Ok(json!({"Statement": statement.to_string(), "RevisionId": policy["RevisionId"]}))
}

fn policy(version: &LayerVersion) -> Result<Value> {
    if version.policy.is_empty() {
        let message = "No policy is associated with the given resource.";
        return Err(LambdaError::missing(message));
    }
    let statements: Vec<&Value> = version.policy.values().collect();
    let policy = json!({"Version": "2012-10-17", "Id": "default", "Statement": statements});
    let policy = policy.to_string();
    let revision = headwater_model::ObjectId::of(policy.as_bytes()).to_string();
    Ok(json!({"Policy": policy, "RevisionId": revision[..36]}))
}

/// Replaces the layers of a function by the layers in a request. Without a list in the request,
/// changes nothing.
pub(crate) async fn attach(
    service: &Service,
    request: &LambdaRequest,
    arns: Option<&[String]>,
    attributes: &mut BTreeMap<String, Value>,
) -> Result<()> {
    let Some(arns) = arns else { return Ok(()) };
    attributes.remove(LAYERS);
    if arns.len() > LAYERS_MAX {
        let message = format!("A function has at most {LAYERS_MAX} layers.");
        return Err(LambdaError::invalid(message));
    }
    let mut used = Vec::with_capacity(arns.len());
    for arn in arns {
        let (name, number) = version_of(arn)?;
        let layer = service.invocations().layers().get(&request.principal, &name).await;
        let missing = || LambdaError::invalid(format!("Layer version {arn} does not exist."));
        let layer = layer.map_err(|problem| match problem.code {
            ErrorCode::FunctionNotFound => missing(),
            _ => problem.into(),
        })?;
        let code = layer.versions.get(&number).ok_or_else(missing)?.code.clone();
        used.push(UsedLayer { arn: arn.clone(), code });
    }
    if !used.is_empty() {
        attributes.insert(LAYERS.to_owned(), json!(used));
    }
    Ok(())
}

/// Returns the layers of a function in the form of AWS.
pub(crate) fn layers_json(used: &Value) -> Value {
    let used: Vec<UsedLayer> = serde_json::from_value(used.clone()).unwrap_or_default();
    used.iter().map(|one| json!({"Arn": one.arn, "CodeSize": one.code.bytes})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_by_arns() {
        let arn = "arn:aws:lambda:us-east-1:000000000000:layer:deps:3";
        assert_eq!(version_of(arn).expect(arn), ("deps".to_owned(), 3));
        for wrong in [
            "",
            "deps:3",
            "arn:aws:lambda:us-east-1:0:layer:deps",
            "arn:aws:lambda:x:0:layer:a/b:1",
        ] {
            version_of(wrong).expect_err(wrong);
        }
        for wrong in ["", "a/b", "..", "a:b"] {
            assert_eq!(layer_name(wrong), None, "{wrong}");
        }
        let of = |method: &Method, path: &[&str]| LayerOperation::of(method, path);
        let delete = LayerOperation::Delete("deps".into(), 3);
        assert_eq!(of(&Method::DELETE, &["deps", "versions", "3"]), Some(delete));
        assert_eq!(of(&Method::GET, &["deps", "versions", "x"]), None);
        assert_eq!(of(&Method::PATCH, &[]), None);
    }
}
