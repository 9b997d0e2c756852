//! Secrets of functions: available as environment variables, and removed from all output.

use headwater_model::ErrorCode;

use crate::support::{World, files};

const MANIFEST: &str = "[defaults]\npython = \"3.11\"\n";

const MODELS: &str = r#"
import base64
import os
import headwater


@headwater.model(materialization="replace", secrets=["API_KEY"])
def answered():
    key = os.environ["API_KEY"]
    print("plain", key)
    print("encoded", base64.b64encode(f"user:{key}".encode()).decode())
    return [{"length": len(key)}]


@headwater.model(materialization="replace")
def without():
    return [{"keys": sum("API_KEY" in name for name in os.environ)}]
"#;

const RAISES: &str = r#"
import os
import headwater


@headwater.model(materialization="replace", secrets=["API_KEY"])
def refused():
    raise ValueError("rejected " + os.environ["API_KEY"])
"#;

#[tokio::test]
async fn a_secret_reaches_only_the_function_that_names_it_and_no_output() {
    let world = World::new().await;
    let project = files(MANIFEST, &[("models/m.py", MODELS)]);
    let missing = world.run(&project).await;
    assert_eq!(missing.outcome.as_ref().unwrap_err().code, ErrorCode::SecretNotFound);

    world.secrets.set("API_KEY", "hunter2-hunter2", "ada").await.unwrap();
    let ran = world.run(&project).await;
    assert_eq!(ran.report().tables, ["answered", "without"]);
    let printed = ran.printed().join("\n");
    assert!(printed.contains("plain ***") && printed.contains("encoded "), "{printed}");
    let shown = format!("{printed}{:?}", ran.events);
    for form in ["hunter2", "aHVudGVyMi", "h1bnRlcjIt"] {
        assert!(!shown.contains(form), "{form}: {shown}");
    }
    let rows = world.sql("main", &["SELECT length, keys FROM answered, without"]).await;
    assert!(rows.contains("| 15     | 0    |"), "{rows}");
}

#[tokio::test]
async fn a_secret_in_an_exception_is_removed() {
    let world = World::new().await;
    world.secrets.set("API_KEY", "hunter2-hunter2", "ada").await.unwrap();
    let ran = world.run(&files(MANIFEST, &[("models/m.py", RAISES)])).await;
    let problem = format!("{:?}", ran.outcome.as_ref().unwrap_err());
    assert!(problem.contains("rejected ***"), "{problem}");
    assert!(!format!("{problem}{:?}", ran.events).contains("hunter2"), "{problem}");
}
