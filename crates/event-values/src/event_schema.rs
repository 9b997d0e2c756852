//! The schema of the events that a trigger can record, for the check of filters.

use headwater_event_pattern::{FieldSchema, ValueSchema};
use headwater_model::{
    BucketEvent, BucketTrigger, JobStatus, JobsTrigger, KafkaTrigger, MAIN_BRANCH, NatsTrigger,
    PostgresTrigger, QueueTrigger, Trigger,
};

/// Returns the schema of the events of a trigger. `server_uri` is the value of the field `source`
/// in events of a database, a stream or a topic; if it is `None`, the field can be any text.
pub fn event_schema(trigger: &Trigger, server_uri: Option<String>) -> ValueSchema {
    let server = server_uri.map_or(ValueSchema::Text, one);
    let (source, types, subject, data): EventSchemas = if let Some(bucket) = &trigger.bucket {
        let source = one(bucket.url());
        (source, object_types(bucket), true, vec![FieldSchema::new("object", object(bucket))])
    } else if trigger.files.is_some() {
        let file = vec![
            FieldSchema::new("path", ValueSchema::Text),
            FieldSchema::new("uri", ValueSchema::Text),
            FieldSchema::new("etag", ValueSchema::Text),
            FieldSchema::new("size", ValueSchema::Count),
        ];
        let files = FieldSchema::new("files", ValueSchema::Object(file));
        (ValueSchema::Text, one("headwater.file.arrived".into()), true, vec![files])
    } else if trigger.tables.is_some() {
        let branch = trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned());
        let source = one(format!("/branches/{branch}"));
        let data = vec![
            FieldSchema::new("branch", one(branch)),
            FieldSchema::new("tables", ValueSchema::Text),
            FieldSchema::new("commit", ValueSchema::Text),
        ];
        (source, one("headwater.table.changed".into()), true, data)
    } else if trigger.merges.is_some() {
        merges_shape(trigger)
    } else if let Some(jobs) = &trigger.jobs {
        jobs_shape(jobs)
    } else if let Some(postgres) = &trigger.postgres {
        postgres_shape(server, postgres)
    } else if let Some(queue) = &trigger.queue {
        queue_shape(queue)
    } else if let Some(nats) = &trigger.nats {
        nats_shape(server, nats)
    } else if let Some(kafka) = &trigger.kafka {
        kafka_shape(server, kafka)
    } else {
        let data = vec![FieldSchema::new("scheduled", ValueSchema::Text)];
        let source = one(format!("/triggers/{}", trigger.name));
        (source, one("headwater.schedule.fired".into()), false, data)
    };
    let mut fields = vec![
        FieldSchema::new("source", source),
        FieldSchema::new("type", types),
        FieldSchema::new("time", ValueSchema::Text),
        FieldSchema::optional("caused_by", ValueSchema::Text),
        FieldSchema::new("data", ValueSchema::Object(data)),
    ];
    if subject {
        fields.push(FieldSchema::optional("subject", ValueSchema::Text));
    }
    ValueSchema::Object(fields)
}

/// The schemas of the fields `source` and `type`, true if the event may have a `subject`, and the
/// schemas of the fields in `data`.
type EventSchemas = (ValueSchema, ValueSchema, bool, Vec<FieldSchema>);

fn merges_shape(trigger: &Trigger) -> EventSchemas {
    let targets = trigger.merge_targets();
    let is_pattern = |name: &&str| name.contains(['*', '?', '[', '{', '\\']);
    let of_targets = |prefix: &str| {
        if targets.iter().any(is_pattern) {
            return ValueSchema::Text;
        }
        ValueSchema::OneOf(targets.iter().map(|name| format!("{prefix}{name}")).collect())
    };
    let data = vec![
        FieldSchema::new("branch", of_targets("")),
        FieldSchema::new("source", ValueSchema::Text),
        FieldSchema::new("before", ValueSchema::Text),
        FieldSchema::new("commit", ValueSchema::Text),
        FieldSchema::new("source_commit", ValueSchema::Text),
        FieldSchema::new("tables", ValueSchema::Text),
        FieldSchema::new("author", ValueSchema::Text),
    ];
    (of_targets("/branches/"), one("headwater.branch.merged".into()), true, data)
}

fn jobs_shape(jobs: &JobsTrigger) -> EventSchemas {
    let statuses = match jobs.statuses.as_slice() {
        [] => &JobStatus::FINAL[..],
        statuses => statuses,
    };
    let statuses = statuses.iter().map(|status| status.as_str().to_owned()).collect();
    let kinds = jobs.kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
    let text = |name| FieldSchema::new(name, ValueSchema::Text);
    let optional = |name| FieldSchema::optional(name, ValueSchema::Text);
    let job = vec![
        FieldSchema::new("kind", ValueSchema::OneOf(kinds)),
        FieldSchema::new("status", ValueSchema::OneOf(statuses)),
        text("id"),
        optional("name"),
        optional("trigger"),
        text("summary"),
        text("author"),
        optional("reference"),
        optional("event"),
        text("created"),
        optional("started"),
        text("ended"),
        FieldSchema::new("usage", ValueSchema::Any),
        FieldSchema::new("cost", ValueSchema::Any),
        FieldSchema::optional("error", ValueSchema::Any),
    ];
    let data = vec![FieldSchema::new("job", ValueSchema::Object(job))];
    (ValueSchema::Text, one("headwater.job.ended".into()), true, data)
}

fn postgres_shape(source: ValueSchema, postgres: &PostgresTrigger) -> EventSchemas {
    match (&postgres.outbox, &postgres.channel) {
        (Some(table), _) => {
            let table = FieldSchema::new("table", one(table.clone()));
            let data = vec![table, FieldSchema::new("rows", ValueSchema::Any)];
            (source, one("headwater.postgres.rows_added".into()), true, data)
        }
        (None, channel) => {
            let channel = one(channel.clone().unwrap_or_default());
            let payloads = FieldSchema::new("payloads", ValueSchema::Any);
            let data = vec![FieldSchema::new("channel", channel), payloads];
            (source, one("headwater.postgres.notified".into()), true, data)
        }
    }
}

fn queue_shape(queue: &QueueTrigger) -> EventSchemas {
    let source = one(format!("/queues/{}", queue.name));
    let message = vec![
        FieldSchema::new("id", ValueSchema::Text),
        FieldSchema::new("sent", ValueSchema::Text),
        FieldSchema::new("sender", ValueSchema::Text),
        FieldSchema::optional("group", ValueSchema::Text),
        FieldSchema::new("payload", ValueSchema::Any),
        FieldSchema::new("record", ValueSchema::Any),
    ];
    let data = vec![
        FieldSchema::new("queue", one(queue.name.clone())),
        FieldSchema::new("messages", ValueSchema::Object(message)),
    ];
    (source, one("headwater.queue.received".into()), true, data)
}

fn nats_shape(source: ValueSchema, nats: &NatsTrigger) -> EventSchemas {
    let message = vec![
        FieldSchema::new("subject", ValueSchema::Text),
        FieldSchema::new("sequence", ValueSchema::Count),
        FieldSchema::new("time", ValueSchema::Text),
        FieldSchema::optional("headers", ValueSchema::Any),
        FieldSchema::new("payload", ValueSchema::Any),
        FieldSchema::optional("is_base64", ValueSchema::Any),
    ];
    let data = vec![
        FieldSchema::new("stream", one(nats.stream.clone())),
        FieldSchema::new("messages", ValueSchema::Object(message)),
    ];
    (source, one("headwater.nats.received".into()), true, data)
}

fn kafka_shape(source: ValueSchema, kafka: &KafkaTrigger) -> EventSchemas {
    let record = vec![
        FieldSchema::new("offset", ValueSchema::Count),
        FieldSchema::new("time", ValueSchema::Text),
        FieldSchema::optional("key", ValueSchema::Text),
        FieldSchema::optional("headers", ValueSchema::Any),
        FieldSchema::new("payload", ValueSchema::Any),
        FieldSchema::optional("is_base64", ValueSchema::Any),
        FieldSchema::new("record", ValueSchema::Any),
    ];
    let data = vec![
        FieldSchema::new("topic", one(kafka.topic.clone())),
        FieldSchema::new("partition", ValueSchema::Count),
        FieldSchema::new("records", ValueSchema::Object(record)),
    ];
    (source, one("headwater.kafka.received".into()), true, data)
}

fn one(text: String) -> ValueSchema {
    ValueSchema::OneOf(vec![text])
}

fn object_types(bucket: &BucketTrigger) -> ValueSchema {
    let name = |event: &BucketEvent| format!("headwater.object.{}", event.as_str());
    ValueSchema::OneOf(bucket.events.iter().map(name).collect())
}

fn object(bucket: &BucketTrigger) -> ValueSchema {
    let operations = bucket.events.iter().flat_map(|event| match event {
        BucketEvent::Created => &["put", "copy", "complete_multipart_upload"][..],
        BucketEvent::Removed => &["delete"][..],
    });
    let operations = operations.map(|&name| name.to_owned()).collect();
    let requester = ValueSchema::Object(vec![
        FieldSchema::new("principal", ValueSchema::Text),
        FieldSchema::optional("address", ValueSchema::Text),
    ]);
    ValueSchema::Object(vec![
        FieldSchema::new("bucket", one(bucket.plain_name().to_owned())),
        FieldSchema::new("key", ValueSchema::Text),
        FieldSchema::new("uri", ValueSchema::Text),
        FieldSchema::new("operation", ValueSchema::OneOf(operations)),
        FieldSchema::new("size", ValueSchema::Count),
        FieldSchema::new("etag", ValueSchema::Text),
        FieldSchema::new("sequencer", ValueSchema::Text),
        FieldSchema::optional("requester", requester),
    ])
}
