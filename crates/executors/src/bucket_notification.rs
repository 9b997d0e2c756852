//! Notifications of buckets, which S3 clients configure. Each notification is stored as a
//! standalone trigger.
//!
//! The trigger's record also contains the notification itself, so that a client reads the values
//! that it wrote.

use std::collections::BTreeMap;

use headwater_deployments::StandaloneTrigger;
use headwater_model::{
    BucketEvent, BucketNotification, BucketTrigger, ErrorCode, EventFormat, ObjectOperation,
    Problem, ResultExt, Trigger,
};
use serde_json::json;

use crate::deployer::{DeployIdentity, Deployer};

/// Maximum number of notifications of a bucket, as in S3.
const NOTIFICATIONS_MAX: usize = 100;

/// Maximum length of the id of a notification, in bytes.
const ID_BYTES_MAX: usize = 128;

const OPERATIONS: [ObjectOperation; 4] = [
    ObjectOperation::Put,
    ObjectOperation::Copy,
    ObjectOperation::CompleteMultipartUpload,
    ObjectOperation::Delete,
];

impl Deployer {
    /// Returns the notifications of a bucket, by id.
    pub async fn notifications(&self, bucket: &str) -> Result<Vec<BucketNotification>, Problem> {
        let stored = self.standalone.list().await.or_problem()?;
        let of_bucket = stored.into_iter().filter(|it| is_notification_of(it, bucket));
        Ok(of_bucket.filter_map(|it| it.notification).collect())
    }

    /// Replaces all notifications of a bucket. An empty list removes them. If a new notification
    /// has the id of an existing one, the pending events are kept.
    ///
    /// Errors: `invalid_argument`; `already_exists` if the trigger of a notification has the name
    /// of another trigger; `function_not_found` and `forbidden`, for example. After an error, the
    /// notifications are unchanged.
    pub async fn set_notifications(
        &self,
        bucket: &str,
        notifications: Vec<BucketNotification>,
        by: &DeployIdentity,
    ) -> Result<(), Problem> {
        let new = self.new_notifications(bucket, notifications, by).await?;
        let _guard = self.activation.lock().await;
        let stored = self.standalone.list().await.or_problem()?;
        for name in new.keys() {
            self.check_not_declared(name)?;
            match stored.iter().find(|it| it.trigger.name == *name && !it.removed) {
                Some(other) if !is_notification_of(other, bucket) => {
                    let message = format!("trigger `{name}` already exists");
                    let hint = "Choose another id for the notification.";
                    return Err(Problem::new(ErrorCode::AlreadyExists, message).with_hint(hint));
                }
                Some(_) => {}
                None => self.forget_events(name).await?,
            }
        }
        let of_bucket = stored.into_iter().filter(|it| is_notification_of(it, bucket));
        let gone = of_bucket.filter(|it| !new.contains_key(&it.trigger.name));
        let mut changed: Vec<StandaloneTrigger> =
            gone.map(|it| StandaloneTrigger { removed: true, ..it }).collect();
        changed.extend(new.into_values());
        if changed.is_empty() {
            return Ok(());
        }
        self.store_standalone(&changed).await
    }

    /// Checks new notifications. Returns the trigger of each notification, by the trigger's name.
    async fn new_notifications(
        &self,
        bucket: &str,
        notifications: Vec<BucketNotification>,
        by: &DeployIdentity,
    ) -> Result<BTreeMap<String, StandaloneTrigger>, Problem> {
        if notifications.len() > NOTIFICATIONS_MAX {
            let message = format!("a bucket can have at most {NOTIFICATIONS_MAX} notifications");
            return Err(Problem::new(ErrorCode::InvalidArgument, message));
        }
        let mut new = BTreeMap::new();
        for notification in notifications {
            let trigger = trigger_of(bucket, &notification)?;
            self.check_standalone(&trigger, by).await?;
            let id = notification.id.clone();
            let created = StandaloneTrigger {
                author: by.author.clone(),
                actor: by.actor.clone(),
                created: self.lake.clock().now(),
                removed: false,
                notification: Some(notification),
                trigger,
            };
            if new.insert(created.trigger.name.clone(), created).is_some() {
                let message = format!("two notifications have the id `{id}`");
                return Err(Problem::new(ErrorCode::InvalidArgument, message));
            }
        }
        Ok(new)
    }
}

/// Returns true if a trigger is a notification of this bucket and is not removed.
fn is_notification_of(created: &StandaloneTrigger, bucket: &str) -> bool {
    let of_bucket = created.trigger.bucket.as_ref().is_some_and(|it| it.name == bucket);
    created.notification.is_some() && of_bucket && !created.removed
}

/// Returns the trigger of a notification.
///
/// Errors: `invalid_argument`, with the event, the ARN or the id that is not supported.
fn trigger_of(bucket: &str, notification: &BucketNotification) -> Result<Trigger, Problem> {
    let BucketNotification { id, function_arn, events, prefix, suffix } = notification;
    if !(1..=ID_BYTES_MAX).contains(&id.len()) {
        let message = format!("the id of a notification must have 1 to {ID_BYTES_MAX} bytes");
        return Err(Problem::new(ErrorCode::InvalidArgument, message));
    }
    if events.is_empty() {
        let message = format!("notification `{id}` has no event");
        return Err(Problem::new(ErrorCode::InvalidArgument, message));
    }
    let mut selected = Vec::new();
    for event in events {
        selected.extend(operations_of(event)?);
    }
    let is_selected = |operation: &ObjectOperation| selected.contains(operation);
    let (created, removed): (Vec<ObjectOperation>, Vec<ObjectOperation>) =
        OPERATIONS.into_iter().filter(is_selected).partition(|it| it.creates());
    let mut kinds = Vec::new();
    if !created.is_empty() {
        kinds.push(BucketEvent::Created);
    }
    if !removed.is_empty() {
        kinds.push(BucketEvent::Removed);
    }
    // The source `created` selects all operations that create objects. If the notification selects
    // only some operations, the filter excludes the others.
    let creating = OPERATIONS.iter().filter(|it| it.creates()).count();
    let is_partial = !created.is_empty() && created.len() < creating;
    let operations: Vec<ObjectOperation> = created.into_iter().chain(removed).collect();
    let filter = is_partial.then(|| json!({"data": {"object": {"operation": operations}}}));
    Ok(Trigger {
        name: notification.trigger_name(bucket),
        bucket: Some(BucketTrigger {
            name: bucket.to_owned(),
            prefix: prefix.clone(),
            suffix: suffix.clone(),
            events: kinds,
            format: EventFormat::Aws,
            poll: BucketTrigger::POLL,
        }),
        filter,
        function: Some(function_of(function_arn)?),
        ..Trigger::default()
    })
}

/// Returns the operations that an S3 event type such as `s3:ObjectCreated:*` selects.
fn operations_of(event: &str) -> Result<Vec<ObjectOperation>, Problem> {
    let name = event.strip_prefix("s3:").unwrap_or_default();
    let is_selected = |operation: &ObjectOperation| {
        let of_operation = operation.aws_name();
        let group = name.strip_suffix('*').filter(|group| group.ends_with(':'));
        name == of_operation || group.is_some_and(|group| of_operation.starts_with(group))
    };
    let selected: Vec<ObjectOperation> = OPERATIONS.into_iter().filter(is_selected).collect();
    if selected.is_empty() {
        let message = format!("the event `{event}` is not supported");
        let hint = "Use `s3:ObjectCreated:*`, `s3:ObjectCreated:Put`, `s3:ObjectCreated:Copy`, \
                    `s3:ObjectCreated:CompleteMultipartUpload`, `s3:ObjectRemoved:*` or \
                    `s3:ObjectRemoved:Delete`.";
        return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
    }
    Ok(selected)
}

/// Returns the function in an ARN of the Lambda API: `NAME` or `NAME:QUALIFIER`.
fn function_of(arn: &str) -> Result<String, Problem> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "lambda", _, _, "function", name] => Ok((*name).to_owned()),
        ["arn", _, "lambda", _, _, "function", name, qualifier] => {
            Ok(format!("{name}:{qualifier}"))
        }
        _ => {
            let message = format!("`{arn}` is not the ARN of a function");
            let hint = "Use an ARN such as `arn:aws:lambda:us-east-1:000000000000:function:NAME`.";
            Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_triggers::check_trigger;

    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:clean";

    fn notification(arn: &str, events: &[&str]) -> BucketNotification {
        BucketNotification {
            id: "new".to_owned(),
            function_arn: arn.to_owned(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
            prefix: "in/".to_owned(),
            suffix: String::new(),
        }
    }

    fn check(events: &[&str], kinds: &[BucketEvent], operations: Option<&[&str]>) {
        let trigger = trigger_of("landing", &notification(ARN, events)).expect("a trigger");
        check_trigger(&trigger).expect("a valid trigger");
        assert_eq!(trigger.name, "landing/new");
        assert_eq!(trigger.bucket.expect("a bucket").events, kinds, "{events:?}");
        let filter = operations.map(|names| json!({"data": {"object": {"operation": names}}}));
        assert_eq!(trigger.filter, filter, "{events:?}");
    }

    #[test]
    fn events_of_s3_select_operations_on_objects() {
        let (created, removed) = (BucketEvent::Created, BucketEvent::Removed);
        check(&["s3:ObjectCreated:*"], &[created], None);
        check(&["s3:ObjectCreated:Put"], &[created], Some(&["put"]));
        let both = ["s3:ObjectRemoved:Delete", "s3:ObjectCreated:Copy"];
        check(&both, &[created, removed], Some(&["copy", "delete"]));
        check(&["s3:ObjectRemoved:*", "s3:ObjectCreated:*"], &[created, removed], None);
        check(&["s3:ObjectRemoved:Delete"], &[removed], None);
    }

    #[test]
    fn an_unsupported_event_or_arn_is_named() {
        for (arn, event, named) in [
            (ARN, "s3:ObjectTagging:*", "`s3:ObjectTagging:*`"),
            (ARN, "s3:ObjectCreated:Post", "`s3:ObjectCreated:Post`"),
            (ARN, "s3:*", "`s3:*`"),
            (ARN, "ObjectCreated:Put", "`ObjectCreated:Put`"),
            ("clean", "s3:ObjectCreated:*", "`clean`"),
            ("arn:aws:sqs:us-east-1:000000000000:q", "s3:ObjectCreated:*", ":q`"),
        ] {
            let error = trigger_of("landing", &notification(arn, &[event])).expect_err("an error");
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert!(error.message.contains(named), "{}", error.message);
        }
    }

    #[test]
    fn the_arn_of_a_version_calls_the_version() {
        let arn = format!("{ARN}:live");
        let trigger = trigger_of("landing", &notification(&arn, &["s3:ObjectCreated:*"]));
        assert_eq!(trigger.expect("a trigger").function.as_deref(), Some("clean:live"));
    }
}
