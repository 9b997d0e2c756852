//! Behaviour that users of the crate rely on, over an in-memory store that can fail at any call.

mod batches;
mod buckets;
mod calls;
mod cancelled_requests;
mod catch_up;
mod crash;
mod definitions;
mod deliveries;
mod division;
mod external_servers;
mod final_failures;
mod kafka;
mod kafka_server;
mod kill;
mod nats;
mod occurrences;
mod postgres;
mod preparation;
mod queues;
mod rejected_events;
mod remote_buckets;
mod removal;
mod schedule_crash;
mod servers;
#[path = "../../../jobs/tests/jobs/support.rs"]
mod support;
mod table_rights;
mod tables;
mod targets;
mod trim_race;
mod unreadable_budgets;
