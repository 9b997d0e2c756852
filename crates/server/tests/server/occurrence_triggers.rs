//! Triggers on merges and on ends of jobs, over kills of the server and for users with few rights.

use std::collections::BTreeSet;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::bucket_triggers::write;
use crate::life_cycle::Killable;
use crate::support::{TestServer, deployment};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("triggers::merges_and_ends_of_jobs_before_a_kill_fire_once_after_it", kills),
        trial("triggers::users_see_merges_and_jobs_only_with_the_right", rights),
    ]
}

const KEEP: &str = "\
import headwater


@headwater.function(reuse=True)
def keep(event):
    return event[\"type\"]
";

async fn kills() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let project = "[project]\nname = \"shop\"\n\n\
        [[trigger]]\nname = \"merged\"\nmerges = { into = [\"main\"] }\nfunction = \"keep\"\n\n\
        [[trigger]]\nname = \"ended\"\nfunction = \"keep\"\n\
        jobs.kinds = [\"run\"]\njobs.names = [\"bad\"]\n\
        jobs.statuses = [\"failed\", \"interrupted\"]\n";
    write(folder.path(), "headwater.toml", project);
    write(folder.path(), "functions/keep.py", KEEP);
    let mut child = Killable::start(folder.path()).await;
    let send = async |child: &Killable, path: &str, sent: Value| {
        let answer = child.ask(Method::POST, path, Some(&sent)).await;
        assert!(answer.get("code").is_none(), "{path}: {answer}");
        answer
    };
    send(&child, "/v1/deployments", deployment(folder.path())).await;
    let failing = json!({"files": {
        "headwater.toml": "[project]\nname = \"bad\"\n",
        "models/bad.sql": "SELECT * FROM no_such_table\n",
    }});
    let count = 6;
    for number in 0..count {
        let branch = format!("b{number}");
        send(&child, "/v1/branches", json!({"name": branch})).await;
        let sql = format!("CREATE TABLE t{number} (id INT)");
        send(&child, "/v1/query", json!({"sql": sql, "ref": branch})).await;
        send(&child, "/v1/runs", failing.clone()).await;
        send(&child, "/v1/branches/main/merge", json!({"source": branch})).await;
        if number % 2 == 1 {
            child.kill();
            // Remove the description file of the killed server, so that the test does not mistake
            // it for the file of the next server.
            let said = folder.path().join(".headwater/server.json");
            std::fs::remove_file(said).expect("a file");
            child = Killable::start(folder.path()).await;
        }
    }
    let path = "/v1/trigger-events?limit=1000";
    let is_done = |found: &str| found.matches(r#""status":"done""#).count() >= 2 * count;
    child.until(path, is_done).await;
    let events = child.ask(Method::GET, path, None).await;
    let events = events.as_array().expect("events").clone();
    let check = |trigger: &str, pointer: &str| {
        let events = events.iter().filter(|event| event["trigger"] == trigger);
        let value = |event: &Value| event.pointer(pointer).map(Value::to_string);
        let noted: Vec<String> = events.filter_map(value).collect();
        let distinct: BTreeSet<&String> = noted.iter().collect();
        assert_eq!((noted.len(), distinct.len()), (count, count), "{noted:?}");
    };
    check("merged", "/data/commit");
    check("merged", "/data/source");
    check("merged", "/data/tables");
    check("ended", "/data/job/id");
    child.kill();
}

async fn rights() {
    let server = TestServer::start().await;
    let project = "[project]\nname = \"shop\"\n\n\
        [[trigger]]\nname = \"merged\"\nmerges = { into = [\"*\"] }\nfunction = \"keep\"\n\n\
        [[trigger]]\nname = \"ended\"\njobs = { kinds = [\"query\"] }\nfunction = \"keep\"\n";
    write(server.folder.path(), "headwater.toml", project);
    write(server.folder.path(), "functions/keep.py", KEEP);
    for (branch, table) in [("one", "a"), ("hidden", "b")] {
        server.post("/v1/branches", json!({"name": branch})).await;
        let create = json!({"sql": format!("CREATE TABLE {table} (id INT)"), "ref": branch});
        server.post("/v1/query", create).await;
    }
    let users = Users::on(server).await;
    let grants = ["deploy on project:shop", "read on branch:main"];
    let dev = users.user("dev", &grants).await;
    let files = deployment(users.server.folder.path());
    let (status, deployed) = users.send(&dev, Method::POST, "/v1/deployments", Some(files)).await;
    assert!(status.is_success(), "{deployed}");
    let merge = async |source: &str, target: &str| {
        let path = format!("/v1/branches/{target}/merge");
        let merged = users.server.post(&path, json!({"source": source})).await;
        assert_ne!(merged["outcome"], "up_to_date", "{merged}");
    };
    merge("one", "hidden").await;
    merge("one", "main").await;
    users.server.rows("SELECT 1").await;
    users.check(&dev, "SELECT 2", 200).await;
    let of = async |trigger: &str| {
        let path = format!("/v1/trigger-events?status=done&trigger={trigger}");
        let is_done = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
        users.server.until(&path, is_done).await
    };
    // The earlier merge and query are not events, because the user may not see them.
    let merged = of("merged").await;
    assert_eq!(merged.as_array().map(Vec::len), Some(1), "{merged}");
    assert_eq!(merged[0]["data"]["branch"], "main", "{merged}");
    assert_eq!(merged[0]["data"]["tables"], json!([]), "the user may not read the table");
    let ended = of("ended").await;
    assert_eq!(ended.as_array().map(Vec::len), Some(1), "{ended}");
    assert_eq!(ended[0]["data"]["job"]["author"], "dev", "{ended}");
    users.server.running.shutdown().await;
}
