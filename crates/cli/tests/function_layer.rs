//! `headwater function layer`: layers are published, used by functions, listed and deleted.

mod support;

use serde_json::json;
use support::Workspace;

const HANDLER: &str = "import shared


def handler(event, context):
    return shared.RATE * event
";

#[test]
fn a_layer_is_published_used_and_deleted() {
    let workspace = Workspace::new();
    workspace.write("shared/python/shared.py", "RATE = 2\n");
    workspace.write("price/app.py", HANDLER);
    let layer = |arguments: &[&str]| {
        let answer = workspace.run(&[&["function", "layer"][..], arguments].concat());
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        answer.stderr
    };
    let published = layer(&["publish", "rates", "shared", "--description", "two"]);
    assert!(published.contains("published version 1 of layer rates, "), "{published}");
    assert!(published.contains("--layer rates:1`"), "{published}");
    workspace.write("shared/python/shared.py", "RATE = 3\n");
    layer(&["publish", "rates", "shared"]);

    let deploy = |name: &str, used: &str| {
        let arguments = ["function", "deploy", name, "price", "--runtime", "python3.11"];
        let more = ["--handler", "app.handler", "--layer", used];
        workspace.json(&[&arguments[..], &more].concat())
    };
    let invoke = |name: &str| workspace.json(&["function", "invoke", name, "--arg", "event=10"]);
    assert_eq!(deploy("price", "rates:1")["layers"], json!(["rates:1"]));
    deploy("other", "rates:2");
    assert_eq!((invoke("price"), invoke("other")), (json!(20), json!(30)));

    let listed = workspace.json(&["function", "layer", "ls"]);
    let rows = listed.as_array().expect("rows").iter();
    let shown = |row: &serde_json::Value| (row["version"].clone(), row["description"].clone());
    let expected = [(json!(1), json!("two")), (json!(2), json!(""))];
    assert_eq!(rows.map(shown).collect::<Vec<_>>(), expected);
    assert!(workspace.ok(&["function", "layer", "ls"]).contains("rates"));

    assert_eq!(layer(&["rm", "rates", "1"]), "removed layer rates:1\n");
    assert_eq!(invoke("price"), json!(20), "a function keeps the files of its layers");
    let error = workspace.fails(3, &["function", "layer", "rm", "rates", "1"]);
    assert!(error.contains("layer `rates` has no version 1"), "{error}");
    assert!(error.contains("`headwater function layer ls`"), "{error}");
    let missing = layer(&["rm", "rates", "1", "--if-exists"]);
    assert_eq!(missing, "layer rates:1 does not exist; nothing was removed\n");
    let error = workspace.fails(2, &["function", "layer", "publish", "a.b", "shared"]);
    assert!(error.contains("`a.b` is not a valid layer name"), "{error}");
    let error = workspace.fails(2, &["function", "layer", "publish", "rates", "missing"]);
    assert!(error.contains("`missing` cannot be read"), "{error}");
}
