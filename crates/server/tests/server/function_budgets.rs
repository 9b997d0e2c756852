//! Daily budgets of functions: calls by clients and events.

use libtest_mimic::Trial;
use serde_json::json;

use crate::bucket_triggers::write;
use crate::support::TestServer;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("function_budgets::a_function_with_an_exhausted_budget_is_not_called", calls)]
}

const FUNCTIONS: &str = "\
import headwater


@headwater.function(reuse=True, calls_per_day=2)
def limited():
    return 1
";

async fn calls() {
    let server = TestServer::start().await;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"budgets\"\n");
    write(server.folder.path(), "functions/limited.py", FUNCTIONS);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let invoke =
        async || server.post("/v1/functions/limited/invoke", json!({"arguments": {}})).await;
    for _ in 0..2 {
        assert_eq!(invoke().await, json!(1));
    }
    let refused = invoke().await;
    assert_eq!(refused["code"], "quota_exceeded", "{refused}");
    let hint = refused["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("raise `calls_per_day`"), "{refused}");
    let listed = server.get("/v1/functions").await;
    let budget = &listed[0]["budget"];
    assert_eq!(budget["budget"], json!({"calls_per_day": 2}), "{listed}");
    assert_eq!((&budget["calls"], &budget["is_exhausted"]), (&json!(2), &json!(true)), "{listed}");

    // An event waits until a version with a higher budget is deployed.
    let call = json!({"arguments": {}});
    let accepted = server.post("/v1/functions/limited/invoke-async", call).await;
    let path = format!("/v1/trigger-events/{}", accepted["event"].as_str().expect("an event"));
    let waiting = server.until(&path, |event| event["error"]["code"] == "quota_exceeded").await;
    assert_eq!((&waiting["status"], &waiting["attempts"]), (&json!("pending"), &json!(0)));
    let (error, hint) = (waiting["error"]["message"].as_str(), waiting["error"]["hint"].as_str());
    assert!(error.is_some_and(|text| text.contains("`calls_per_day` is 2")), "{waiting}");
    assert!(hint.is_some_and(|text| text.contains("The next day begins at")), "{waiting}");
    let listed = server.get("/v1/trigger-events?status=pending").await;
    assert_eq!(listed[0]["error"], waiting["error"], "{listed}");
    let higher = FUNCTIONS.replace("calls_per_day=2", "calls_per_day=3");
    write(server.folder.path(), "functions/limited.py", &higher);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let done = server.until(&path, |event| event["status"] == "done").await;
    assert_eq!(done["error"], json!(null), "{done}");
    assert_eq!(invoke().await["code"], "quota_exceeded");
    server.running.shutdown().await;
}
