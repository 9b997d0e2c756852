//! Functions with the signature of AWS Lambda: unmodified runtime clients, handlers, and faulty
//! runtimes.

mod support;

use serde_json::{Value, json};
use support::Workspace;

/// Functions with runtimes, and their files.
const RUNTIMES: &str = "\
[project]
name = \"test\"

[functions.client]
runtime = \"provided.al2023\"
command = [\"python\", \"-m\", \"awslambdaric\", \"app.handler\"]
handler = \"app.handler\"
folder = \"py\"
packages = { awslambdaric = \"4.2.2\" }

[functions.python]
runtime = \"python3.11\"
handler = \"app.handler\"
folder = \"py\"
memory = \"256MiB\"
timeout = \"30s\"

[functions.async-python]
runtime = \"python3.11\"
handler = \"app.slowly\"
folder = \"py\"

[functions.node]
runtime = \"nodejs20.x\"
handler = \"web.handler\"
folder = \"web\"

[functions.node-stream]
runtime = \"nodejs20\"
handler = \"web.stream\"
folder = \"web\"

[functions.shell]
runtime = \"provided\"
folder = \"sh\"
env = { GREETING = \"hello\" }
system = [\"curl\"]
";

const PYTHON: &str = "\
import asyncio
import os

calls = 0


def handler(event, context):
    global calls
    calls += 1
    if event == \"fail\":
        raise ValueError(\"not today\")
    if event == \"exit\":
        os._exit(7)
    left = context.get_remaining_time_in_millis()
    return {
        \"event\": event,
        \"calls\": calls,
        \"id\": context.aws_request_id,
        \"in time\": 0 < left,
        \"name\": context.function_name,
        \"memory\": context.memory_limit_in_mb,
        \"variables\": [os.environ[\"_HANDLER\"], os.environ[\"AWS_LAMBDA_FUNCTION_VERSION\"]],
    }


async def slowly(event, context):
    await asyncio.sleep(0.01)
    return {\"slept\": event, \"arn\": context.invoked_function_arn}
";

const NODE: &str = "\
let calls = 0;
exports.handler = async (event, context) => {
  calls += 1;
  console.log(`node handles ${JSON.stringify(event)}`);
  if (event === 'fail') throw new TypeError('not today');
  return { event, calls, id: context.awsRequestId, left: context.getRemainingTimeInMillis() > 0 };
};
exports.stream = awslambda.streamifyResponse(async (event, answer) => {
  answer.write('some ');
  answer.write('text');
  if (event === 'fail') throw new Error('failed halfway');
  answer.end();
});
";

/// A runtime in shell.
const SHELL: &str = r#"#!/bin/sh
calls=0
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    calls=$((calls + 1))
    event=$(curl -sS -D /tmp/headers "$api/next")
    id=$(grep -i 'request-id' /tmp/headers | tr -d '[:space:]' | cut -d: -f2)
    answer="{\"event\": $event, \"calls\": $calls, \"said\": \"$GREETING\"}"
    curl -sS -o /dev/null --data "$answer" "$api/$id/response"
done
"#;

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("headwater.toml", RUNTIMES);
    workspace.write("py/app.py", PYTHON);
    workspace.write("web/web.js", NODE);
    workspace.write("sh/bootstrap", SHELL);
    workspace.ok(&["deploy"]);
    workspace
}

fn invoke(workspace: &Workspace, name: &str, event: &Value) -> Value {
    workspace.json(&["function", "invoke", name, "--arg", &format!("event={event}")])
}

#[test]
fn unmodified_runtime_clients_and_handlers_serve_calls_of_one_process() {
    let workspace = workspace();
    for name in ["client", "python", "node", "shell"] {
        for calls in [1, 2, 3] {
            let event = json!({"n": calls});
            let found = invoke(&workspace, name, &event);
            assert_eq!((&found["event"], &found["calls"]), (&event, &json!(calls)), "{name}");
        }
    }
    let jobs = workspace.json(&["job", "ls", "--kind", "function"]);
    let found = invoke(&workspace, "python", &json!(1));
    assert_eq!(found["name"], "python");
    assert_eq!(found["memory"], "256");
    assert_eq!(found["in time"], true);
    assert_eq!(found["variables"], json!(["app.handler", "$LATEST"]));
    let newest = &workspace.json(&["job", "ls", "--kind", "function"])[0]["id"];
    assert_eq!(&found["id"], newest, "the request id is the job's: {jobs}");
    assert_eq!(invoke(&workspace, "shell", &json!(1))["said"], "hello");
    let slept = invoke(&workspace, "async-python", &json!("an hour"));
    assert_eq!(slept["slept"], "an hour");
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:async-python";
    assert_eq!(slept["arn"], arn);
    assert_eq!(invoke(&workspace, "node-stream", &json!(1)), json!("some text"));
}

#[test]
fn the_start_of_a_runtime_is_measured_and_its_errors_are_reported() {
    let workspace = workspace();
    let first = workspace.run(&["function", "invoke", "node", "--arg", "event=1"]);
    assert!(first.stderr.contains(" ms to initialize"), "{}", first.stderr);
    assert!(first.stderr.contains("node handles 1"), "{}", first.stderr);
    let second = workspace.run(&["function", "invoke", "node", "--arg", "event=1"]);
    assert!(!second.stderr.contains("to initialize"), "{}", second.stderr);
    for (name, event, expected) in [
        ("client", "fail", "ValueError: not today"),
        ("client", "exit", "`python -m awslambdaric app.handler` exited with status 7 before it"),
        ("python", "fail", "ValueError: not today (py/app.py:"),
        ("node", "fail", "TypeError: not today"),
        ("node-stream", "fail", "Error: failed halfway"),
    ] {
        let event = format!("event={event}");
        let told = workspace.run(&["function", "invoke", name, "--arg", &event]);
        assert!(told.code != 0 && told.stderr.contains(expected), "{name}: {}", told.stderr);
    }
    // A runtime survives a failed call. If a runtime has ended, it is started again.
    for (name, calls) in [("node", 4), ("client", 1)] {
        assert_eq!(invoke(&workspace, name, &json!(1))["calls"], calls, "{name}");
    }
}

#[test]
fn a_runtime_that_misbehaves_is_reported() {
    let workspace = Workspace::new();
    let take = "api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime; \
                curl -sS -D /tmp/h -o /tmp/event $api/invocation/next; \
                id=$(grep -i request-id /tmp/h | tr -d '[:space:]' | cut -d: -f2); \
                post() { curl -sS --data-binary @- $api/invocation/$1; }; ";
    let cases = [
        ("exit 3", "Runtime.ExitError: ", "exited with status 3 before it requested an event"),
        ("TAKE exit 4", "Runtime.ExitError: ", "exited with status 4 before it responded"),
        ("TAKE kill -9 $$", "Runtime.ExitError: ", "was ended by signal 9 before it responded"),
        (
            "sleep 100",
            "did not request an event within 12 s (10 s for its start, plus its time limit of 2 s)",
            "",
        ),
        ("TAKE sleep 100", "ran longer than its limit of 2 s", ""),
        (
            "TAKE echo 1 | post other/response; exit 5",
            "exited with status 5",
            "invocation/other/response` does not answer the event with the request id",
        ),
        (
            "TAKE head -c 70000000 /dev/zero | post $id/response",
            "Function.ResponseSizeTooLarge: the response has more than 64 MiB",
            "",
        ),
        (
            "TAKE yes | curl -sS -T - -X POST $api/invocation/$id/response",
            "Function.ResponseSizeTooLarge: the response has more than 64 MiB",
            "",
        ),
        (
            "TAKE printf '\\\\377' | post $id/response",
            "Runtime.InvalidResponse: the response is neither JSON nor UTF-8 text",
            "",
        ),
        (
            "echo '{\\\"errorType\\\": \\\"Bad.Config\\\", \\\"errorMessage\\\": \\\"no key\\\"}' | \
             curl -sS --data @- http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/init/error; exit 1",
            "Bad.Config: no key",
            "",
        ),
        (
            "TAKE curl -sS -H 'Lambda-Runtime-Function-Response-Mode: whole' -d 1 \
             $api/invocation/$id/response",
            "Runtime.InvalidResponseModeHeader: `whole` is not a response mode",
            "",
        ),
        (
            "curl -sS http://$AWS_LAMBDA_RUNTIME_API/next; exit 6",
            "exited with status 6",
            "`GET /next` is not part of the runtime API",
        ),
    ];
    let mut manifest = "[project]\nname = \"test\"\n".to_owned();
    for (number, (script, _, _)) in cases.iter().enumerate() {
        let script = script.replace("TAKE ", take);
        let timeout = if script.ends_with("sleep 100") { "2s" } else { "60s" };
        manifest += &format!(
            "[functions.f{number}]\nruntime = \"provided\"\ntimeout = \"{timeout}\"\n\
             command = [\"sh\", \"-c\", \"{script}\"]\n"
        );
    }
    // The first response is the result, even if the runtime responds again or does not request the
    // next event.
    for (name, end) in [("twice", "echo 2 | post $id/response; exit 0"), ("stays", "sleep 100")] {
        manifest += &format!(
            "[functions.{name}]\nruntime = \"provided\"\n\
             command = [\"sh\", \"-c\", \"{take} echo 1 | post $id/response; {end}\"]\n"
        );
    }
    workspace.write("headwater.toml", manifest);
    workspace.ok(&["deploy"]);
    for (number, (script, first, second)) in cases.iter().enumerate() {
        let told = workspace.run(&["function", "invoke", &format!("f{number}")]);
        let is_reported = told.stderr.contains(first) && told.stderr.contains(second);
        assert!(told.code != 0 && is_reported, "{script}: {}", told.stderr);
    }
    for name in ["twice", "stays", "twice", "stays"] {
        assert_eq!(workspace.ok(&["function", "invoke", name]).trim(), "1", "{name}");
    }
}

#[test]
fn the_start_of_a_runtime_does_not_count_against_the_timeout() {
    let workspace = Workspace::new();
    let script = "sleep 4; api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation; \
                  curl -sS -D /tmp/h -o /tmp/event $api/next; \
                  id=$(grep -i request-id /tmp/h | tr -d '[:space:]' | cut -d: -f2); \
                  echo 1 | curl -sS --data-binary @- $api/$id/response; sleep 100";
    let manifest = format!(
        "[project]\nname = \"test\"\n[functions.slow-start]\nruntime = \"provided\"\n\
         timeout = \"3s\"\nsystem = [\"curl\"]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
    );
    workspace.write("headwater.toml", manifest);
    workspace.ok(&["deploy"]);
    assert_eq!(workspace.ok(&["function", "invoke", "slow-start"]).trim(), "1");
}

#[test]
fn a_function_with_a_runtime_must_be_complete() {
    let workspace = Workspace::new();
    workspace.write("app.py", "def handler(event, context): pass\n");
    for (declaration, expected) in [
        ("runtime = \"java21\"", "`java21` is not a supported runtime"),
        ("runtime = \"python3.11\"", "a function with this runtime needs a `handler`"),
        ("runtime = \"python3.11\"\nhandler = \"app\"", "`app` is not a handler"),
        ("runtime = \"python3.11\"\nhandler = \"../x.f\"", "`../x.f` is not a handler"),
        ("runtime = \"python3.11\"\nhandler = \"ap.handler\"", "has no file `ap.py`, which"),
        ("runtime = \"nodejs20\"\nhandler = \"app.handler\"", "has no file `app.js`, which"),
        ("runtime = \"provided\"", "the project has no file `./bootstrap`"),
        ("runtime = \"provided\"\nfolder = \"none\"", "the project has no file `none/bootstrap`"),
        ("runtime = \"provided\"\nfolder = \"../up\"", "`../up` is not a folder inside"),
        ("command = [\"ls\"]\nhandler = \"app.handler\"", "`handler` is only for functions with"),
        (
            "runtime = \"nodejs20\"\ncommand = [\"ls\"]",
            "`command` cannot be used with the runtime `nodejs20`",
        ),
        ("", "`command` is empty"),
    ] {
        let text = format!("[project]\nname = \"test\"\n[functions.f]\n{declaration}\n");
        workspace.write("headwater.toml", &text);
        let told = workspace.run(&["deploy", "--dry-run"]);
        assert!(told.code != 0 && told.stderr.contains(expected), "{declaration}: {}", told.stderr);
    }
    // A deployment succeeds if the module lacks the handler's function, because only the first call
    // looks it up.
    let text = "[project]\nname = \"test\"\n[functions.f]\nruntime = \"python3.11\"\n\
                handler = \"app.other\"\n";
    workspace.write("headwater.toml", text);
    let told = workspace.fails(5, &["function", "invoke", "f", "--working-folder"]);
    assert!(told.contains("`app.py` has no function `other`"), "{told}");
}
