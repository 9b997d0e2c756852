//! Operations on queues.

use std::collections::BTreeMap;

use headwater_service::QueueRecord;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Result, SqsError};
use super::protocol::{ACCOUNT, SqsRequest};

/// Maximum number of queues in a page.
const PAGE_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateQueueRequest {
    queue_name: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default, rename = "tags")]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueParameters {
    queue_url: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    attribute_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagQueueRequest {
    queue_url: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListQueuesRequest {
    queue_url: Option<String>,
    #[serde(default)]
    queue_name_prefix: String,
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// Returns the name in the URL of a queue.
pub(super) fn name_of(url: Option<&str>) -> Result<String> {
    let url = url.filter(|url| !url.is_empty()).ok_or_else(|| SqsError::missing("QueueUrl"))?;
    let name = url.rsplit('/').next().unwrap_or_default();
    let is_local = url.ends_with(&format!("/{ACCOUNT}/{name}")) || url == name;
    if is_local && !name.is_empty() {
        return Ok(name.to_owned());
    }
    Err(SqsError::new("InvalidAddress", format!("{url} is not the URL of a queue.")))
}

/// Returns the ARN of a queue.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}")
}

pub(super) async fn create(request: &SqsRequest) -> Result<Value> {
    let CreateQueueRequest { queue_name, attributes, tags } = request.parse()?;
    let name = queue_name.ok_or_else(|| SqsError::missing("QueueName"))?;
    let created = request.queues.create(&request.principal, &name, &attributes, tags).await?;
    Ok(json!({"QueueUrl": request.url(&created.name)}))
}

pub(super) async fn delete(request: &SqsRequest) -> Result<Value> {
    let QueueParameters { queue_url, .. } = request.parse()?;
    request.queues.delete(&request.principal, &name_of(queue_url.as_deref())?).await?;
    Ok(Value::Null)
}

pub(super) fn url(request: &SqsRequest) -> Result<Value> {
    let CreateQueueRequest { queue_name, .. } = request.parse()?;
    let name = queue_name.ok_or_else(|| SqsError::missing("QueueName"))?;
    let queue = request.queues.get(&request.principal, &name)?;
    Ok(json!({"QueueUrl": request.url(&queue.name)}))
}

pub(super) fn list(request: &SqsRequest) -> Result<Value> {
    let list: ListQueuesRequest = request.parse()?;
    let listed = request.queues.list(&request.principal, &list.queue_name_prefix)?;
    Ok(page(request, "QueueUrls", listed, list))
}

pub(super) fn dead_letter_sources(request: &SqsRequest) -> Result<Value> {
    let list: ListQueuesRequest = request.parse()?;
    let name = name_of(list.queue_url.as_deref())?;
    request.queues.get(&request.principal, &name)?;
    let mut listed = request.queues.list(&request.principal, "")?;
    listed.retain(|queue| {
        let redrive = queue.attributes.redrive.as_ref();
        redrive.is_some_and(|redrive| redrive.queue == name)
    });
    Ok(page(request, "queueUrls", listed, list))
}

fn page(
    request: &SqsRequest,
    key: &str,
    listed: Vec<QueueRecord>,
    list: ListQueuesRequest,
) -> Value {
    let after = list.next_token.unwrap_or_default();
    let mut names = listed.into_iter().map(|queue| queue.name).filter(|name| *name > after);
    let limit = list.max_results.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let page: Vec<String> = names.by_ref().take(limit).collect();
    let urls: Vec<String> = page.iter().map(|name| request.url(name)).collect();
    let mut answer = json!({ key: urls });
    // As on AWS, a page has a token for the next one only if the request sets `MaxResults`.
    if list.max_results.is_some() && names.next().is_some() {
        answer["NextToken"] = json!(page.last());
    }
    answer
}

pub(super) async fn tag(request: &SqsRequest) -> Result<Value> {
    let TagQueueRequest { queue_url, tags, .. } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    request.queues.tag(&request.principal, &name, tags).await?;
    Ok(Value::Null)
}

pub(super) async fn untag(request: &SqsRequest) -> Result<Value> {
    let TagQueueRequest { queue_url, tag_keys, .. } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    request.queues.untag(&request.principal, &name, &tag_keys).await?;
    Ok(Value::Null)
}

pub(super) fn tags(request: &SqsRequest) -> Result<Value> {
    let QueueParameters { queue_url, .. } = request.parse()?;
    let queue = request.queues.get(&request.principal, &name_of(queue_url.as_deref())?)?;
    Ok(json!({"Tags": queue.tags}))
}

pub(super) async fn attributes(request: &SqsRequest) -> Result<Value> {
    let QueueParameters { queue_url, attribute_names, .. } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    let (queue, counts) = request.queues.describe(&request.principal, &name).await?;
    let mut all = queue.attributes.named(arn);
    all.insert("QueueArn", arn(&name));
    all.insert("CreatedTimestamp", queue.created.timestamp().to_string());
    all.insert("LastModifiedTimestamp", queue.modified.timestamp().to_string());
    all.insert("ApproximateNumberOfMessages", counts.visible.to_string());
    all.insert("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string());
    all.insert("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string());
    let is_wanted = |name: &str| attribute_names.iter().any(|one| one == name || one == "All");
    let wanted: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    Ok(if wanted.is_empty() { Value::Null } else { json!({"Attributes": wanted}) })
}

pub(super) async fn set_attributes(request: &SqsRequest) -> Result<Value> {
    let QueueParameters { queue_url, attributes, .. } = request.parse()?;
    let name = name_of(queue_url.as_deref())?;
    request.queues.set_attributes(&request.principal, &name, &attributes).await?;
    Ok(Value::Null)
}

pub(super) async fn purge(request: &SqsRequest) -> Result<Value> {
    let QueueParameters { queue_url, .. } = request.parse()?;
    request.queues.purge(&request.principal, &name_of(queue_url.as_deref())?).await?;
    Ok(Value::Null)
}
