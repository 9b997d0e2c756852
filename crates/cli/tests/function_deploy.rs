//! Functions without a project: deployment from folders and archives, versions, calls, triggers.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{Workspace, until};

const PYTHON: &str = "\
import json
import os
import sys

import six


def handler(event, context):
    if event == 'fail':
        raise ValueError('not today')
    print('handling', context.function_name)
    return {'event': event, 'six': six.PY3, 'greeting': os.environ.get('GREETING')}
";

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("price/app.py", PYTHON);
    workspace.write("price/requirements.txt", "six==1.17.0\n");
    workspace.write("price/.hidden", "not deployed");
    workspace
}

fn deploy(workspace: &Workspace, more: &[&str]) -> Value {
    let mut arguments = vec!["function", "deploy", "price", "price"];
    arguments.extend(["--runtime", "python3.11", "--handler", "app.handler"]);
    arguments.extend(more);
    workspace.json(&arguments)
}

fn invoke(workspace: &Workspace, name: &str, event: &Value) -> Value {
    workspace.json(&["function", "invoke", name, "--arg", &format!("event={event}")])
}

/// Writes a ZIP archive with Python's `zipfile`. `statements` are Python statements that add its
/// files.
fn archive(workspace: &Workspace, path: &str, statements: &str) {
    let script = format!(
        "import zipfile\nz = zipfile.ZipFile('{path}', 'w', zipfile.ZIP_DEFLATED)\n{statements}\nz.close()\n"
    );
    let mut python = Command::new("python3");
    let status = python.args(["-c", &script]).current_dir(workspace.path()).status();
    let status = status.expect("python3");
    assert!(status.success(), "{statements}");
}

#[test]
fn a_folder_is_deployed_called_and_removed() {
    let workspace = workspace();
    let first = deploy(&workspace, &["--env", "GREETING=hello", "--memory", "512MiB"]);
    assert_eq!(first["version"], 1);
    assert_eq!(first["files"], json!(["app.py", "requirements.txt"]));
    let found = invoke(&workspace, "price", &json!({"n": 1}));
    assert_eq!(found, json!({"event": {"n": 1}, "six": true, "greeting": "hello"}));
    let second = deploy(&workspace, &["--env", "GREETING=bye", "--description", "new"]);
    assert_eq!((&second["version"], &second["versions"]), (&json!(2), &json!([1, 2])));
    for (name, greeting) in [("price", "bye"), ("price:1", "hello"), ("price:2", "bye")] {
        assert_eq!(invoke(&workspace, name, &json!(1))["greeting"], greeting, "{name}");
    }
    let error = workspace.fails(5, &["function", "invoke", "price", "--arg", "event=fail"]);
    assert!(error.contains("ValueError: not today"), "{error}");
    // A new server reads the stored function.
    workspace.kill_server();
    assert_eq!(invoke(&workspace, "price:1", &json!(1))["greeting"], "hello");
    assert!(workspace.ok(&["function", "ls"]).contains("version 2"));
    let shown = workspace.ok(&["function", "show", "price"]);
    assert!(shown.contains("app.handler") && shown.contains("1, 2"), "{shown}");
    let versions = workspace.json(&["function", "versions", "price"]);
    assert_eq!(versions[0]["env"], json!({"GREETING": "hello"}));
    workspace.ok(&["function", "rm", "price"]);
    workspace.fails(3, &["function", "invoke", "price"]);
    workspace.fails(3, &["function", "rm", "price"]);
    let missing = workspace.run(&["function", "rm", "price", "--if-exists"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (0, "function price does not exist; nothing was removed\n")
    );
}

#[test]
fn a_deployment_keeps_the_settings_that_it_does_not_name() {
    let workspace = workspace();
    let settings = ["--env", "GREETING=hello", "--memory", "512MiB", "--timeout", "20s"];
    let limits = ["--reserved-concurrency", "2", "--description", "prices"];
    deploy(&workspace, &[&settings[..], &limits].concat());
    workspace.write("price/data.txt", "new");
    let redeploy = |more: &[&str]| {
        workspace.json(&[&["function", "deploy", "price", "price"][..], more].concat())
    };
    let second = redeploy(&[]);
    assert_eq!(second["version"], 2);
    for (name, value) in [
        ("runtime", json!("python3.11")),
        ("handler", json!("app.handler")),
        ("description", json!("prices")),
        ("memory_bytes", json!(512 << 20)),
        ("timeout_ms", json!(20_000)),
        ("env", json!({"GREETING": "hello"})),
        ("concurrency", json!(2)),
    ] {
        assert_eq!(second[name], value, "{name}");
    }
    assert_eq!(invoke(&workspace, "price", &json!(1))["greeting"], "hello");
    // Nothing changed, so there is no new version.
    assert_eq!(redeploy(&[])["versions"], json!([1, 2]));
    let third = redeploy(&["--env", "LEVEL=1", "--reset", "memory"]);
    assert_eq!(third["env"], json!({"LEVEL": "1"}));
    assert_eq!((&third["memory_bytes"], &third["timeout_ms"]), (&json!(null), &json!(20_000)));
    let reset = redeploy(&["--reset", "env", "--reset", "reserved-concurrency"]);
    assert_eq!((&reset["env"], &reset["concurrency"]), (&json!({}), &json!(null)));
    let error = workspace.fails(2, &["function", "deploy", "new", "price"]);
    assert!(error.contains("a new function needs a runtime"), "{error}");
}

#[test]
fn the_reason_for_missing_provisioned_instances_is_shown() {
    let workspace = Workspace::new();
    let source = "def handler(event, context):\n    return 1\n\n\nraise ValueError('broken')\n";
    workspace.write("slow/app.py", source);
    let deploy = ["function", "deploy", "slow", "slow", "--runtime", "python3.11"];
    let limits = ["--handler", "app.handler", "--provisioned-concurrency", "2"];
    workspace.ok(&[&deploy[..], &limits, &["--memory", "256MiB"]].concat());
    until("the failed start is reported", || {
        let told = workspace.run(&["function", "ls"]).stderr;
        told.contains("`slow` has 0 of 2 provisioned instances: ") && told.contains("broken")
    });
    let shown = workspace.json(&["function", "show", "slow"]);
    let state = &shown["provisioned"]["$LATEST"];
    assert_eq!((&state["requested"], &state["ready"]), (&json!(2), &json!(0)), "{shown}");
    assert!(state["problem"].as_str().is_some_and(|text| text.contains("broken")), "{shown}");
}

#[test]
fn aliases_and_urls_are_managed() {
    let workspace = workspace();
    deploy(&workspace, &["--env", "GREETING=one"]);
    deploy(&workspace, &["--env", "GREETING=two"]);
    let alias = |arguments: &[&str]| {
        let answer = workspace.run(&[&["function", "alias"][..], arguments].concat());
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        answer.stderr
    };
    assert_eq!(alias(&["create", "price", "live", "1"]), "created alias live of price: 1\n");
    assert_eq!(invoke(&workspace, "price:live", &json!(1))["greeting"], "one");
    let updated = alias(&["update", "price", "live", "--weight", "2=1"]);
    assert_eq!(updated, "updated alias live of price: 1, 2=1\n");
    assert_eq!(invoke(&workspace, "price:live", &json!(1))["greeting"], "two");
    alias(&["update", "price", "live", "--no-weights", "--description", "stable"]);
    let listed = workspace.json(&["function", "alias", "ls", "price"]);
    let expected = json!({"live": {"version": 1, "description": "stable", "weights": {}}});
    assert_eq!(listed, expected);
    let error = workspace.fails(3, &["function", "alias", "update", "price", "none", "1"]);
    assert!(error.contains("no version or alias `none`"), "{error}");
    let error = workspace.fails(2, &["function", "alias", "create", "price", "b", "newest"]);
    assert!(error.contains("write the number of a version, or `latest`"), "{error}");

    let url = ["price", "--alias", "live"];
    let create = [&["function", "url", "create"][..], &url, &["--auth", "none"]].concat();
    assert_eq!(workspace.ok(&create), "/lambda-url/price:live/\n");
    let shown = workspace.json(&[&["function", "url", "get"][..], &url].concat());
    assert_eq!((&shown["auth"], &shown["stream"]), (&json!("none"), &json!(false)), "{shown}");
    let error = workspace.fails(4, &create);
    assert!(error.contains("the URL of `price:live` already exists"), "{error}");
    let hint = "Change it with `headwater function url update price --alias live`.";
    assert!(error.contains(hint), "{error}");
    let update =
        |more: &[&str]| workspace.json(&[&["function", "url", "update"][..], &url, more].concat());
    let changed = update(&["--auth", "iam", "--stream"]);
    assert_eq!((&changed["auth"], &changed["stream"]), (&json!("iam"), &json!(true)));
    let changed = update(&["--auth", "none"]);
    assert_eq!((&changed["auth"], &changed["stream"]), (&json!("none"), &json!(true)));
    assert_eq!(update(&["--no-stream"])["stream"], json!(false));
    let error = workspace.fails(2, &[&["function", "url", "update"][..], &url].concat());
    assert!(error.contains("no setting of the URL is given"), "{error}");
    let error = workspace.fails(4, &["function", "alias", "create", "price", "live", "2"]);
    assert!(error.contains("headwater function alias update price live"), "{error}");
    workspace.ok(&[&["function", "url", "rm"][..], &url].concat());
    let error = workspace.fails(3, &["function", "url", "update", "price", "--auth", "none"]);
    assert!(
        error.contains("Create it with `headwater function url create price --auth iam`"),
        "{error}"
    );
    let error = workspace.fails(3, &[&["function", "url", "get"][..], &url].concat());
    assert!(error.contains("function `price:live` has no URL"), "{error}");
    let error = workspace.fails(3, &[&["function", "url", "rm"][..], &url].concat());
    assert!(error.contains("function `price:live` has no URL"), "{error}");
    let missing = workspace.run(&[&["function", "url", "rm"][..], &url, &["--if-exists"]].concat());
    let expected = "URL of function price:live does not exist; nothing was removed\n";
    assert_eq!((missing.code, missing.stderr.as_str()), (0, expected));
    alias(&["rm", "price", "live"]);
    workspace.fails(3, &["function", "alias", "rm", "price", "live"]);
    assert_eq!(workspace.json(&["function", "alias", "ls", "price"]), json!({}));
}

#[test]
fn an_archive_is_deployed_and_a_hostile_one_is_rejected() {
    let workspace = workspace();
    archive(
        &workspace,
        "good.zip",
        "z.writestr('lib/app.py', 'def handler(event, context):\\n    return [event]\\n')",
    );
    let deploy = |file: &str, handler: &str| {
        let arguments = ["function", "deploy", "zipped", file, "--runtime", "python3.11"];
        workspace.run(&[&arguments[..], &["--handler", handler]].concat())
    };
    let deployed = deploy("good.zip", "lib/app.handler");
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    assert_eq!(invoke(&workspace, "zipped", &json!(1)), json!([1]));
    let wrong = deploy("good.zip", "app.handler");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("`lib/app.py`"), "{}", wrong.stderr);
    for (statements, expected) in [
        ("z.writestr('../app.py', 'x')", "`..`"),
        ("z.writestr('/app.py', 'x')", "absolute"),
        ("z.writestr('app.py', 'x'); z.writestr('app.py', 'y')", "two entries"),
        (
            "i = zipfile.ZipInfo('app.py'); i.create_system = 3; \
             i.external_attr = 0o120777 << 16; z.writestr(i, '/etc/passwd')",
            "link",
        ),
        ("[z.writestr(str(n), bytes(400 << 20), compresslevel=1) for n in range(3)]", "too large"),
    ] {
        archive(&workspace, "bad.zip", statements);
        let rejected = deploy("bad.zip", "app.handler");
        assert_eq!(rejected.code, 2, "{statements}");
        assert!(rejected.stderr.contains(expected), "{}", rejected.stderr);
    }
    let whole = std::fs::read(workspace.path().join("good.zip")).expect("an archive");
    workspace.write("cut.zip", &whole[..whole.len() / 2]);
    let rejected = deploy("cut.zip", "app.handler");
    assert!(rejected.stderr.contains("truncated"), "{}", rejected.stderr);
    assert!(!Path::new("/app.py").exists());
    // Rejected archives changed nothing.
    assert_eq!(invoke(&workspace, "zipped", &json!(2)), json!([2]));
}

#[test]
fn a_handler_can_have_the_name_of_its_function_or_of_a_module_of_python() {
    let workspace = Workspace::new();
    let text = "import json\nimport types\nfrom helper import one\n\n\ndef handler(event, context):\n    \
                return json.dumps([one(event), types.ModuleType.__name__, __file__[-3:]])\n";
    let invoked = |name: &str| invoke(&workspace, name, &json!(1));
    let expected = "[1, \"module\", \".py\"]";
    for (name, file, handler) in [
        ("price", "price.py", "price.handler"),
        ("types", "types.py", "types.handler"),
        ("other", "json.py", "json.handler"),
        ("nested", "types/json.py", "types/json.handler"),
        ("package", "json/__init__.py", "json.handler"),
        ("six", "six.py", "six.handler"),
    ] {
        workspace.write(&format!("{name}/{file}"), text);
        workspace.write(&format!("{name}/helper.py"), "def one(value):\n    return value\n");
        let arguments = ["function", "deploy", name, name, "--runtime", "python3.11"];
        workspace.ok(&[&arguments[..], &["--handler", handler]].concat());
        assert_eq!(invoked(name), expected, "{name}");
    }
    let manifest = "[project]\nname = \"test\"\n[functions.price]\nruntime = \"python3.11\"\n\
                    handler = \"price.handler\"\nfolder = \"price\"\n";
    workspace.write("headwater.toml", manifest);
    let arguments = ["function", "invoke", "price", "--working-folder", "--arg", "event=1"];
    assert_eq!(workspace.json(&arguments), expected);
}

#[test]
fn a_response_that_is_not_json_is_reported_with_the_handler() {
    let workspace = Workspace::new();
    workspace.write("app/app.py", "def handler(event, context):\n    return object()\n");
    let arguments = ["function", "deploy", "app", "app", "--runtime", "python3.11"];
    workspace.ok(&[&arguments[..], &["--handler", "app.handler"]].concat());
    let told = workspace.fails(5, &["function", "invoke", "app"]);
    let expected = "Runtime.MarshalError: cannot marshal the response of `app.handler` (`object`)";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn an_unknown_runtime_is_reported_without_a_file() {
    let workspace = workspace();
    for runtime in ["python2.7", "python3.9", "java21"] {
        let arguments = ["function", "deploy", "price", "price", "--runtime", runtime];
        let told = workspace.fails(2, &[&arguments[..], &["--handler", "app.handler"]].concat());
        assert!(told.contains(&format!("`{runtime}` is not a supported runtime\n")), "{told}");
        assert!(told.contains("`python3.10` or later"), "{told}");
    }
}

#[test]
fn the_output_of_the_last_calls_is_shown() {
    let workspace = Workspace::new();
    let text = "def handler(event, context):\n    print('got', event)\n    return 1 / event\n";
    for name in ["one", "two"] {
        workspace.write(&format!("{name}/app.py"), text);
        let arguments = ["function", "deploy", name, name, "--runtime", "python3.11"];
        let told = workspace.run(&[&arguments[..], &["--handler", "app.handler"]].concat());
        assert!(told.stderr.contains("is deployed, 1 file\n"), "{}", told.stderr);
    }
    let none = workspace.fails(3, &["function", "logs", "one"]);
    assert!(none.contains("no recorded call of function `one`"), "{none}");
    for (name, event) in [("one", "4"), ("two", "5"), ("one", "0"), ("one", "8")] {
        workspace.run(&["function", "invoke", name, "--arg", &format!("event={event}")]);
    }
    let logs = workspace.run(&["function", "logs", "one", "-n", "2"]);
    assert_eq!((logs.code, logs.stderr.as_str()), (0, ""), "logs are the result of the command");
    let told = logs.stdout;
    let place = |text: &str| told.find(text).unwrap_or_else(|| panic!("no {text} in:\n{told}"));
    assert!(place("got 0") < place("ZeroDivisionError"), "{told}");
    assert!(place("ZeroDivisionError") < place("got 8"), "{told}");
    assert!(!told.contains("got 4") && !told.contains("got 5"), "{told}");
    let reports: Vec<&str> = told.lines().filter(|line| line.contains("REPORT ")).collect();
    assert_eq!(reports.len(), 2, "{told}");
    assert!(reports[0].ends_with("\tStatus: error\tError Type: ZeroDivisionError"), "{told}");
    assert!(reports[1].contains(" MB\tMax Memory Used: "), "{told}");
    assert!(!reports[1].contains("Status: "), "{told}");
    let calls = workspace.json(&["function", "logs", "one"]);
    assert_eq!(calls.as_array().expect("calls").len(), 3);
    assert_eq!(calls[0]["job"]["summary"], "one");
    assert!(calls[0]["events"].to_string().contains("got 4"), "{calls}");
    workspace.run(&["function", "invoke", "one:1", "--arg", "event=2"]);
    let of_version = workspace.json(&["function", "logs", "one:1"]);
    assert_eq!(of_version.as_array().expect("calls").len(), 1, "{of_version}");
    assert!(of_version[0]["events"].to_string().contains("got 2"), "{of_version}");
    let calls = workspace.json(&["function", "logs", "one"]);
    assert_eq!(calls.as_array().expect("calls").len(), 4, "{calls}");
}

#[test]
fn the_output_of_calls_by_triggers_is_shown() {
    let workspace = Workspace::new();
    workspace.write(
        "functions/arrived.py",
        "import headwater\n\n\n@headwater.function()\ndef arrived(event):\n    \
         print('got', event['subject'])\n",
    );
    let project = "[project]\nname = \"test\"\n\n[[trigger]]\nname = \"landing\"\n\
         files = { folder = \"landing\", debounce = \"50ms\" }\nfunction = \"arrived\"\n";
    workspace.write("headwater.toml", project);
    workspace.write("landing/a.csv", "a\n1\n");
    workspace.ok(&["deploy"]);
    let told = || workspace.run(&["function", "logs", "arrived"]).stdout;
    until("the output of the call is shown", || told().contains("got a.csv"));
}

#[test]
fn a_program_is_deployed_with_its_permissions() {
    let workspace = workspace();
    let script = "#!/bin/sh\napi=\"http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation\"\n\
                  while true; do\n  curl -sS -D /tmp/h \"$api/next\" > /tmp/event\n  \
                  id=$(grep -i request-id /tmp/h | tr -d '[:space:]' | cut -d: -f2)\n  \
                  curl -sS -o /dev/null --data '\"shell\"' \"$api/$id/response\"\ndone\n";
    workspace.write("sh/bootstrap", script);
    let arguments = ["function", "deploy", "sh", "sh", "--runtime", "provided"];
    workspace.ok(&[&arguments[..], &["--system", "curl"]].concat());
    assert_eq!(invoke(&workspace, "sh", &json!(1)), "shell");
    workspace.write("no/main.sh", script);
    let error = workspace.fails(2, &["function", "deploy", "no", "no", "--runtime", "provided"]);
    assert!(error.contains("`bootstrap`") && error.contains("`main.sh`"), "{error}");
}

#[test]
fn a_trigger_and_an_asynchronous_call_use_a_function_without_a_project() {
    let workspace = workspace();
    let manifest = "[project]\nname = \"test\"\n[[trigger]]\nname = \"landed\"\n\
                    files = { folder = \"in\", pattern = \"*.csv\" }\nfunction = \"price\"\n";
    workspace.write("headwater.toml", manifest);
    let error = workspace.fails(2, &["deploy"]);
    assert!(error.contains("`price`"), "{error}");
    workspace.write(
        "price/app.py",
        "def handler(event, context):\n    return event['type'] if 'type' in event else event\n",
    );
    deploy(&workspace, &[]);
    workspace.ok(&["deploy"]);
    workspace.write("in/a.csv", "a\n1\n");
    let delivered = |status: &str| {
        let jobs = workspace.json(&["job", "ls", "--kind", "function"]);
        let jobs = jobs.as_array().expect("jobs");
        jobs.iter().filter(|job| job["status"] == status).count()
    };
    until("the trigger's call", || delivered("succeeded") == 1);
    workspace.ok(&["function", "invoke", "price:1", "--async", "--arg", "event={\"n\": 1}"]);
    until("the asynchronous call", || delivered("succeeded") == 2);
    let usage = workspace.json(&["usage", "--by", "function"]);
    assert_eq!((&usage[0]["group"], &usage[1]), (&json!("price"), &json!(null)), "{usage}");
    let usage = workspace.json(&["usage", "--by", "function,day"]);
    assert_eq!((&usage[0]["group"], &usage[0]["jobs"]), (&json!("price"), &json!(2)), "{usage}");
    let day = usage[0]["subgroup"].as_str().expect("a day").to_owned();
    let shown = workspace.ok(&["usage", "--by", "day,function"]);
    assert!(shown.contains("DAY") && shown.contains("FUNCTION") && shown.contains(&day), "{shown}");
    let calls = workspace.json(&["function", "logs", "price"]);
    assert_eq!(calls.as_array().map(Vec::len), Some(2), "{calls}");
    // A project's function and a function without a project cannot have the same name.
    workspace.write("f.py", "import headwater\n@headwater.function()\ndef price(event): pass\n");
    let error = workspace.fails(4, &["deploy"]);
    assert!(error.contains("function rm price"), "{error}");
}

#[test]
fn a_trigger_is_replaced_shown_and_removed() {
    let workspace = workspace();
    deploy(&workspace, &[]);
    let create = |more: &[&str]| {
        let arguments = ["trigger", "create", "nightly", "--schedule", "15 2 * * *"];
        let answer = workspace.run(&[&arguments[..], &["--function", "price"], more].concat());
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        answer.stderr
    };
    let told = create(&["--replace"]);
    assert!(told.contains("created trigger nightly"), "{told}");
    let settings = [
        "concurrency = 3",
        "order_by = \"subject\"",
        "max_age = \"6h\"",
        "filter = { time = [{ exists = true }] }",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let told = create(&[&["--replace"][..], &settings].concat());
    assert!(told.contains("replaced trigger nightly"), "{told}");
    let shown = workspace.ok(&["trigger", "get", "nightly"]);
    for row in [
        "concurrency 3",
        "order_by    subject",
        "max_age     21600s",
        "filter      {\"time\":[{\"exists\":true}]}",
        "retries     5",
    ] {
        assert!(shown.contains(&format!("  {row}\n")), "no {row} in:\n{shown}");
    }
    workspace.ok(&["trigger", "rm", "nightly"]);
    let missing = workspace.run(&["trigger", "rm", "nightly", "--if-exists"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (0, "trigger nightly does not exist; nothing was removed\n")
    );
    let missing = workspace.json(&["trigger", "rm", "nightly", "--if-exists"]);
    assert_eq!(missing, json!({"removed": null}));
}

#[test]
fn a_created_trigger_survives_a_restart_and_is_removed() {
    let workspace = workspace();
    deploy(&workspace, &[]);
    let create = ["trigger", "create", "often", "--schedule", "rate(1 seconds)"];
    workspace.ok(&[&create[..], &["--function", "price"]].concat());
    let error = workspace.fails(4, &[&create[..], &["--function", "price"]].concat());
    assert!(error.contains("`often` already exists"), "{error}");
    workspace.kill_server();
    until("an event is delivered", || {
        let done = ["event", "ls", "--trigger", "often", "--status", "done"];
        workspace.json(&done)[0]["id"].is_string()
    });
    let listed = workspace.json(&["trigger", "ls"]);
    assert_eq!(listed[0]["name"], "often", "{listed}");
    workspace.ok(&["trigger", "rm", "often"]);
    assert_eq!(workspace.json(&["trigger", "ls"]), json!([]));
    let setting = ["--set", "function = 'price'", "--function", "price"];
    let error = workspace.fails(2, &[&create[..], &setting].concat());
    assert!(error.contains("`function` is given twice"), "{error}");
    let settings = ["--set", "retries = 1", "--set", "retries = 2", "--function", "price"];
    let error = workspace.fails(2, &[&create[..], &settings].concat());
    assert!(error.contains("`retries` is given twice"), "{error}");
    let error = workspace.fails(3, &[&create[..], &["--function", "price:9"]].concat());
    assert!(error.contains("no version or alias `9`"), "{error}");
    workspace.ok(&[&create[..], &["--function", "price"]].concat());
    assert_eq!(
        workspace.json(&["function", "show", "price"])["callers"],
        json!(["trigger `often`"])
    );
    let removed = workspace.run(&["function", "rm", "price"]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    let warning = "warning: calls by trigger `often` fail until the function is deployed again";
    assert!(removed.stderr.contains(warning), "{}", removed.stderr);
    until("a call of the removed function fails", || {
        let pending = ["event", "ls", "--trigger", "often", "--status", "pending"];
        workspace.json(&pending)[0]["error"]["message"] == "there is no function `price`"
    });
}
