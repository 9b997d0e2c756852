//! Ownership of triggers that are created without a project.

use futures::future::join;
use headwater_model::{AccessObject, CredentialSettings, Principal};
use libtest_mimic::Trial;
use serde_json::json;

use crate::lake::{Lake, request};
use crate::trial;

/// Number of repetitions of two concurrent requests.
const ROUNDS: usize = 20;

pub fn trials() -> Vec<Trial> {
    vec![trial("triggers::a_trigger_never_belongs_to_the_creator_of_another_one", concurrent)]
}

async fn concurrent() {
    let lake = Lake::start().await;
    let (owner, functions) = (Principal::owner(), lake.service().invocations().standalone());
    let triggers = lake.service().triggers();
    let user = async |name: &str, function: &str| {
        let files = json!({"app.py": "def handler(event, context):\n    return event\n"});
        let new = json!({"runtime": "python3.11", "handler": "app.handler", "files": files});
        functions.deploy(&owner, function, request(new)).await.expect("deployed");
        let invoke = format!("invoke on function:{function}");
        lake.user(name, &["deploy on project:*", &invoke]).await;
        let token = lake.token(name, CredentialSettings::default()).await;
        lake.log_in(&token).await.expect("a principal")
    };
    let (ana, bob) = (user("ana", "of_ana").await, user("bob", "of_bob").await);
    let create = |by: &Principal, function: &str| {
        let (triggers, by) = (triggers.clone(), by.clone());
        let new = json!({"name": "t", "schedule": "rate(1 hours)", "function": function});
        async move { triggers.create(&by, request(new), true).await.expect("a trigger") }
    };
    for _ in 0..ROUNDS {
        let both = join(create(&ana, "of_ana"), create(&bob, "of_bob"));
        let replaced = Box::pin(both).await;
        assert!(replaced.0 != replaced.1, "one of the requests creates the trigger");
        // The ownership ends if another user has replaced the trigger.
        assert_eq!(lake.access().owner(&AccessObject::trigger("t")), None);
        triggers.delete(&owner, "t").await.expect("deleted");
    }
    create(&ana, "of_ana").await;
    create(&ana, "of_ana").await;
    assert_eq!(lake.access().owner(&AccessObject::trigger("t")).as_deref(), Some("ana"));
    triggers.delete(&bob, "t").await.expect("deleted");
    assert_eq!(lake.access().owner(&AccessObject::trigger("t")), None);
    lake.stop().await;
}
