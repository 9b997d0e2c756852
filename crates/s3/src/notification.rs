//! Notifications of buckets: the functions that changes of objects call.

use headwater_model::{BucketNotification, ErrorCode, Problem};
use headwater_service::S3Operations;
use s3s::dto::{
    Event, FilterRule, FilterRuleName, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, LambdaFunctionConfiguration,
    NotificationConfiguration, NotificationConfigurationFilter,
    PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput, S3KeyFilter,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::authentication::principal;
use crate::error::{s3_error_of, unsupported};

pub(crate) async fn get(
    service: &S3Operations,
    request: S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    let (principal, bucket) = (principal(&request), &request.input.bucket);
    let found = service.buckets().notifications(&principal, bucket).await.map_err(s3_error_of)?;
    let functions = found.into_iter().map(function_configuration).collect();
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
        lambda_function_configurations: Some(functions),
        ..GetBucketNotificationConfigurationOutput::default()
    }))
}

pub(crate) async fn put(
    service: &S3Operations,
    request: S3Request<PutBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
    let principal = principal(&request);
    let PutBucketNotificationConfigurationInput { bucket, notification_configuration, .. } =
        request.input;
    let notifications = notifications(notification_configuration)?;
    let set = service.buckets().set_notifications(&principal, &bucket, notifications).await;
    set.map_err(rejected)?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
}

/// Converts an error of the service. As in S3, a notification whose target does not exist is an
/// invalid argument.
fn rejected(problem: Problem) -> S3Error {
    match problem.code {
        ErrorCode::FunctionNotFound | ErrorCode::AlreadyExists => {
            s3_error_of(Problem { code: ErrorCode::InvalidArgument, ..problem })
        }
        _ => s3_error_of(problem),
    }
}

/// Returns the notifications in an S3 configuration. A notification without an id gets its number
/// in the list as its id.
fn notifications(configuration: NotificationConfiguration) -> S3Result<Vec<BucketNotification>> {
    let NotificationConfiguration {
        event_bridge_configuration,
        lambda_function_configurations,
        queue_configurations,
        topic_configurations,
    } = configuration;
    if event_bridge_configuration.is_some() {
        return Err(unsupported("a notification to EventBridge"));
    }
    if queue_configurations.is_some_and(|queues| !queues.is_empty()) {
        return Err(unsupported("a notification to a queue"));
    }
    if topic_configurations.is_some_and(|topics| !topics.is_empty()) {
        return Err(unsupported("a notification to a topic"));
    }
    let functions = lambda_function_configurations.unwrap_or_default();
    functions.into_iter().zip(1..).map(|(one, number)| notification(one, number)).collect()
}

fn notification(one: LambdaFunctionConfiguration, number: usize) -> S3Result<BucketNotification> {
    let LambdaFunctionConfiguration { events, filter, id, lambda_function_arn } = one;
    let mut notification = BucketNotification {
        id: id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("notification-{number}")),
        function_arn: lambda_function_arn,
        events: events.into_iter().map(String::from).collect(),
        ..BucketNotification::default()
    };
    let rules = filter.and_then(|filter| filter.key?.filter_rules).unwrap_or_default();
    for FilterRule { name, value } in rules {
        let name = name.map(|name| name.as_str().to_ascii_lowercase()).unwrap_or_default();
        let field = match name.as_str() {
            FilterRuleName::PREFIX => &mut notification.prefix,
            FilterRuleName::SUFFIX => &mut notification.suffix,
            _ => return Err(s3_error!(InvalidArgument, "`{name}` is not a filter rule")),
        };
        if !field.is_empty() {
            return Err(s3_error!(
                InvalidArgument,
                "a filter has two rules with the name `{name}`"
            ));
        }
        *field = value.unwrap_or_default();
    }
    Ok(notification)
}

fn function_configuration(notification: BucketNotification) -> LambdaFunctionConfiguration {
    let BucketNotification { id, function_arn, events, prefix, suffix } = notification;
    let rules = [(FilterRuleName::PREFIX, prefix), (FilterRuleName::SUFFIX, suffix)];
    let rules = rules.into_iter().filter(|(_, value)| !value.is_empty());
    let rules: Vec<FilterRule> = rules
        .map(|(name, value)| FilterRule {
            name: Some(FilterRuleName::from_static(name)),
            value: Some(value),
        })
        .collect();
    let filter = (!rules.is_empty()).then_some(NotificationConfigurationFilter {
        key: Some(S3KeyFilter { filter_rules: Some(rules) }),
    });
    LambdaFunctionConfiguration {
        events: events.into_iter().map(Event::from).collect(),
        filter,
        id: Some(id),
        lambda_function_arn: function_arn,
    }
}

#[cfg(test)]
mod tests {
    use s3s::dto::QueueConfiguration;

    use super::*;

    fn configuration(rules: &[(&str, &str)]) -> NotificationConfiguration {
        let rule = |(name, value): &(&str, &str)| FilterRule {
            name: Some(FilterRuleName::from((*name).to_owned())),
            value: Some((*value).to_owned()),
        };
        let filter_rules = Some(rules.iter().map(rule).collect());
        let function = LambdaFunctionConfiguration {
            events: vec![Event::from("s3:ObjectCreated:*".to_owned())],
            filter: Some(NotificationConfigurationFilter {
                key: Some(S3KeyFilter { filter_rules }),
            }),
            id: None,
            lambda_function_arn: "arn".to_owned(),
        };
        NotificationConfiguration {
            lambda_function_configurations: Some(vec![function]),
            ..NotificationConfiguration::default()
        }
    }

    #[test]
    fn a_notification_is_converted_in_both_directions() {
        let parsed = notifications(configuration(&[("Prefix", "in/"), ("suffix", ".csv")]));
        let notification = parsed.expect("a configuration").remove(0);
        let BucketNotification { id, prefix, suffix, .. } = &notification;
        assert_eq!([id, prefix, suffix], ["notification-1", "in/", ".csv"]);
        let configuration = NotificationConfiguration {
            lambda_function_configurations: Some(vec![function_configuration(
                notification.clone(),
            )]),
            ..NotificationConfiguration::default()
        };
        assert_eq!(notifications(configuration).expect("a configuration"), [notification]);
    }

    #[test]
    fn unsupported_rules_and_targets_are_rejected() {
        for rules in [&[("key", "in/")][..], &[("prefix", "a"), ("Prefix", "b")][..]] {
            let error = notifications(configuration(rules)).expect_err("an error");
            assert_eq!(error.code().as_str(), "InvalidArgument");
        }
        let queue = QueueConfiguration {
            events: Vec::new(),
            filter: None,
            id: None,
            queue_arn: "arn:aws:sqs:us-east-1:000000000000:orders".to_owned(),
        };
        let queues = NotificationConfiguration {
            queue_configurations: Some(vec![queue]),
            ..NotificationConfiguration::default()
        };
        let error = notifications(queues).expect_err("an error");
        assert_eq!(error.code().as_str(), "NotImplemented");
    }
}
