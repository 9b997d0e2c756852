//! Policies of functions. Clients can store and read policies, but only Headwater's grants
//! determine access.

use headwater_service::{QualifierChange, Service};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::qualifier_settings;
use crate::request::LambdaRequest;

/// The body of `AddPermission`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PermissionRequest {
    statement_id: String,
    action: String,
    principal: String,
    source_arn: Option<String>,
    source_account: Option<String>,
    event_source_token: Option<String>,
    #[serde(rename = "PrincipalOrgID")]
    organization: Option<String>,
    function_url_auth_type: Option<String>,
    revision_id: Option<String>,
}

impl PermissionRequest {
    fn check(&self) -> Result<()> {
        let is_word = |text: &str, more: &str, longest: usize| {
            let is_usable = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !text.is_empty() && text.len() <= longest && text.chars().all(is_usable)
        };
        if !is_word(&self.statement_id, "-_", 100) {
            return Err(LambdaError::invalid(
                "StatementId must have 1 to 100 letters, digits, hyphens and underscores.",
            ));
        }
        let action = self.action.strip_prefix("lambda:").unwrap_or(&self.action);
        if action != "*" && (action == self.action || !is_word(action, "", 100)) {
            return Err(LambdaError::invalid(
                "Action must name an action of Lambda, such as lambda:InvokeFunction.",
            ));
        }
        if !is_word(&self.principal, "*.:/-_@+=,", 512) {
            return Err(LambdaError::invalid(
                "Principal must have 1 to 512 letters, digits and the characters *.:/-_@+=,",
            ));
        }
        Ok(())
    }

    /// Returns the policy statement that the request describes.
    fn statement(&self, name: &FunctionName) -> Value {
        let principal = match self.principal.as_str() {
            "*" => json!("*"),
            service if service.ends_with(".amazonaws.com") => json!({"Service": service}),
            account if account.bytes().all(|byte| byte.is_ascii_digit()) => {
                json!({"AWS": format!("arn:aws:iam::{account}:root")})
            }
            other => json!({"AWS": other}),
        };
        let mut conditions = Map::new();
        let mut add = |operator: &str, key: &str, value: &Option<String>| {
            if let Some(value) = value {
                conditions.entry(operator).or_insert_with(|| json!({}))[key] = json!(value);
            }
        };
        add("ArnLike", "AWS:SourceArn", &self.source_arn);
        add("StringEquals", "AWS:SourceAccount", &self.source_account);
        add("StringEquals", "lambda:EventSourceToken", &self.event_source_token);
        add("StringEquals", "aws:PrincipalOrgID", &self.organization);
        add("StringEquals", "lambda:FunctionUrlAuthType", &self.function_url_auth_type);
        let mut statement = json!({
            "Sid": self.statement_id,
            "Effect": "Allow",
            "Principal": principal,
            "Action": self.action,
            "Resource": arn(&name.name, name.qualifier.as_deref()),
        });
        if !conditions.is_empty() {
            statement["Condition"] = Value::Object(conditions);
        }
        statement
    }
}

pub(crate) async fn add(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let permission: PermissionRequest = request.parse()?;
    permission.check()?;
    let name = request.qualified(name)?;
    let statement = permission.statement(&name);
    let id = permission.statement_id.clone();
    let change = QualifierChange::AddPermission(id, statement.clone());
    apply(service, request, &name, change, permission.revision_id.as_deref()).await?;
    Ok(json!({"Statement": statement.to_string()}))
}

pub(crate) async fn remove(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
    id: String,
) -> Result<()> {
    let name = request.qualified(name)?;
    let change = QualifierChange::RemovePermission(id);
    apply(service, request, &name, change, request.query("RevisionId")).await
}

async fn apply(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
    change: QualifierChange,
    revision: Option<&str>,
) -> Result<()> {
    if let Some(revision) = revision {
        let functions = service.invocations().standalone();
        let function = functions.get(&request.principal, &name.name).await?;
        if function.policy_revision(name.qualifier.as_deref()) != revision {
            let message = "The RevisionId differs from the current RevisionId of the policy, which \
                           GetPolicy returns.";
            return Err(LambdaError::new(412, "PreconditionFailedException", message));
        }
    }
    qualifier_settings::change(service, request, name, change).await.map(drop)
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (function, name) = qualifier_settings::get(service, request, name).await?;
    let named = name.qualifier.as_deref();
    let settings = function.settings_of(named).filter(|settings| !settings.policy.is_empty());
    let settings = settings
        .ok_or_else(|| LambdaError::missing("No policy is associated with the given resource."))?;
    let statements: Vec<&Value> = settings.policy.values().collect();
    let policy = json!({"Version": "2012-10-17", "Id": "default", "Statement": statements});
    Ok(json!({"Policy": policy.to_string(), "RevisionId": function.policy_revision(named)}))
}
