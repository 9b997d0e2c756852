//! Operations on queues and event source mappings.

use std::collections::BTreeMap;

use headwater_service::{EventSourceMappings, MappingSettings, NewMessage, Queues, ReceiveOptions};

use crate::matrix::{Answers, Call, EMPTY, LISTS_USABLE, OK, Row, done, every, listed, writes};

/// The queue that each user creates and deletes.
const MADE: &str = "made";

/// The answer to users that do not see the queue.
const HIDDEN: &str = "queue_not_found";
const SHOWN: Answers = [HIDDEN, HIDDEN, HIDDEN, OK, OK];

/// The answer for a mapping that does not exist.
const MISSING: &str = "trigger_not_found";

pub const ROWS: &[Row] = &[
    ("Queues::create", writes(OK), |c| {
        done(async move { queues(c).create(&c.by, MADE, &none(), none()).await })
    }),
    ("Queues::list", LISTS_USABLE, |c| listed(async move { queues(c).list(&c.by, "") })),
    ("Queues::get", SHOWN, |c| done(async move { queues(c).get(&c.by, MADE) })),
    ("Queues::describe", SHOWN, |c| done(async move { queues(c).describe(&c.by, MADE).await })),
    ("Queues::set_attributes", writes(OK), |c| {
        done(async move { queues(c).set_attributes(&c.by, MADE, &none()).await })
    }),
    ("Queues::tag", writes(OK), |c| done(async move { queues(c).tag(&c.by, MADE, none()).await })),
    ("Queues::untag", writes(OK), |c| done(async move { queues(c).untag(&c.by, MADE, &[]).await })),
    ("Queues::send", writes(OK), |c| {
        let message = NewMessage {
            body: "text".to_owned(),
            attributes: BTreeMap::new(),
            delay: None,
            group: None,
            deduplication_id: None,
            caused_by: Vec::new(),
        };
        done(async move { queues(c).send(&c.by, MADE, vec![message]).await })
    }),
    ("Queues::receive", writes(OK), |c| {
        let options = ReceiveOptions { limit: 1, visibility: Some(0), wait: Some(0) };
        done(async move { queues(c).receive(&c.by, MADE, options).await })
    }),
    // Errors of single messages are part of the result.
    ("Queues::change_visibility", writes(OK), |c| {
        done(async move { queues(c).change_visibility(&c.by, MADE, "none", 0).await })
    }),
    ("Queues::delete_messages", writes(OK), |c| {
        done(async move { queues(c).delete_messages(&c.by, MADE, &["none".to_owned()]).await })
    }),
    ("Queues::purge", writes(OK), |c| done(async move { queues(c).purge(&c.by, MADE).await })),
    ("EventSourceMappings::create", writes("function_not_found"), |c| {
        let settings = MappingSettings {
            function: "none".to_owned(),
            is_enabled: false,
            batch: 1,
            window: 0,
            filters: Vec::new(),
            reports_failures: false,
            bisects: false,
            concurrency: None,
        };
        done(async move { mappings(c).create(&c.by, MADE, settings).await })
    }),
    ("EventSourceMappings::list", every(EMPTY), |c| {
        listed(async move { mappings(c).list(&c.by).await })
    }),
    ("EventSourceMappings::get", every(MISSING), |c| {
        done(async move { mappings(c).get(&c.by, "none").await })
    }),
    ("EventSourceMappings::update", every(MISSING), |c| {
        done(async move { mappings(c).update(&c.by, "none", |_| {}).await })
    }),
    ("EventSourceMappings::delete", every(MISSING), |c| {
        done(async move { mappings(c).delete(&c.by, "none").await })
    }),
    ("Queues::delete", writes(OK), |c| done(async move { queues(c).delete(&c.by, MADE).await })),
];

fn queues(call: &Call) -> Queues {
    Queues::of(&call.service)
}

fn mappings(call: &Call) -> EventSourceMappings {
    EventSourceMappings::of(&call.service)
}

/// Returns no attributes or tags.
const fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}
