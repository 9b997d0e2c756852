//! Manual deployments: calls use the deployed version, not the working folder.

mod support;

use serde_json::json;
use support::{Workspace, until};

const PROJECT: &str = "\
[project]
name = \"shop\"

[[trigger]]
name = \"nightly\"
schedule = { cron = \"0 2 * * *\" }
branch = \"dev\"
run = true
";

fn function(name: &str, answer: u32) -> String {
    format!(
        "import headwater\n\n\n@headwater.function()\n@headwater.python(pip={{}})\n\
         def {name}():\n    return {answer}\n"
    )
}

fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    workspace.write("headwater.toml", PROJECT);
    workspace.write("functions/seven.py", function("seven", 7));
    workspace.ok(&["init"]);
    workspace
}

/// Returns the output of a successful command, with version ids masked.
fn output(workspace: &Workspace, arguments: &[&str]) -> String {
    let answer = workspace.run(arguments);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
    let text = answer.stdout + &answer.stderr;
    let is_version = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| if is_version(word) { "VERSION" } else { word });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn deploy_prints_the_contents_and_the_changes() {
    let workspace = workspace();
    insta::assert_snapshot!(output(&workspace, &["deploy", "--dry-run"]), @r"
    ✓ version VERSION of shop can be deployed
      functions: seven
      triggers: nightly
      + trigger nightly
      + function seven
      + file functions/seven.py
      + file headwater.toml
      warning: branch `dev` of trigger `nightly` does not exist
    ");
    assert_eq!(workspace.json(&["deployment", "ls"]), json!([]));
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["deploy"]);
    workspace.write("functions/seven.py", function("eight", 8));
    insta::assert_snapshot!(output(&workspace, &["deploy"]), @r"
    ✓ version VERSION of shop is active
      functions: eight
      triggers: nightly
      + function eight
      - function seven
      ~ file functions/seven.py
    ");
    insta::assert_snapshot!(output(&workspace, &["deploy"]), @r"
    ✓ version VERSION of shop was already active
      functions: eight
      triggers: nightly
    ");
    insta::assert_snapshot!(output(&workspace, &["deployment", "rollback"]), @r"
    ✓ version VERSION of shop is active
      functions: seven
      triggers: nightly
      - function eight
      + function seven
      ~ file functions/seven.py
    ");
    insta::assert_snapshot!(workspace.fails(3, &["deployment", "rollback", "00"]), @r"
    error: no deployed version `00`
      hint: List the versions with `headwater deployment ls`.
    ");
    let listed = workspace.json(&["deployment", "ls"]);
    assert_eq!((&listed[0]["functions"], &listed[0]["author"]), (&json!(["eight"]), &json!("eva")));
    assert_eq!((&listed[1]["active"], listed.as_array().map(Vec::len)), (&json!(true), Some(2)));
    assert_eq!(workspace.json(&["deployment", "get"])["functions"], json!(["seven"]));
}

#[test]
fn the_working_folder_is_called_only_with_a_flag() {
    let workspace = workspace();
    insta::assert_snapshot!(workspace.fails(3, &["function", "invoke", "seven"]), @r"
    error: function `seven` is in the working folder, but not deployed
      hint: Run `headwater deploy`, or call the function with `--working-folder`.
    ");
    let draft = ["function", "invoke", "seven", "--working-folder"];
    assert_eq!(workspace.ok(&draft).trim(), "7");
    workspace.ok(&["deploy"]);
    workspace.write("functions/seven.py", function("seven", 77));
    workspace.write("functions/broken.py", "def broken(:\n");
    assert_eq!(workspace.ok(&["function", "invoke", "seven"]).trim(), "7");
    assert_eq!(workspace.ok(&draft).trim(), "77");
    let told = workspace.fails(2, &["deploy"]);
    assert!(told.contains("functions/broken.py:1"), "{told}");
    let listed = workspace.run(&["function", "ls"]);
    assert!(listed.stderr.contains("the working folder cannot be deployed"), "{}", listed.stderr);
    std::fs::remove_file(workspace.path().join("functions/broken.py")).expect("a file");
    let listed = workspace.run(&["function", "ls"]);
    let note = "the working folder differs from the deployment: ~ seven; run `headwater deploy`";
    assert!(listed.stderr.contains(note), "{}", listed.stderr);
    let listed = workspace.run(&["trigger", "ls"]);
    assert!(!listed.stderr.contains("differs"), "{}", listed.stderr);
    assert!(
        listed.stderr.contains("branch `dev` of trigger `nightly` does not exist"),
        "{}",
        listed.stderr
    );
}

#[test]
fn a_trigger_is_shown_with_its_target() {
    let workspace = workspace();
    let trigger = "\n[[trigger]]\nname = \"landed\"\nfiles = { folder = \"in\" }\n\
                   function = \"notify\"\nfilter.subject = [{ suffix = \".csv\" }]\n";
    workspace.write("headwater.toml", format!("{PROJECT}{trigger}"));
    workspace.write("in/.keep", "");
    workspace
        .write("functions/notify.py", function("notify", 1).replace("notify()", "notify(event)"));
    workspace.ok(&["deploy"]);
    let listed = output(&workspace, &["trigger", "ls"]);
    assert!(listed.contains("function notify") && listed.contains("headwater.toml:10"), "{listed}");
    insta::assert_snapshot!(output(&workspace, &["trigger", "get", "landed"]), @r#"
    landed
      defined     headwater.toml:10
      source      files in in/*
      target      function notify
      branch      main
      retries     5
      next        -
      pending     0
      done        0
      failed      0
      files       {"folder":"in","pattern":null,"recursive":false,"debounce":"1s","batch":500}
      filter      {"subject":[{"suffix":".csv"}]}
      max_age     86400s
    "#);
    assert_eq!(workspace.json(&["trigger", "get", "landed"])["function"], "notify");
    let wrong = trigger.replace("filter.subject", "filter.subjekt");
    workspace.write("headwater.toml", format!("{PROJECT}{wrong}"));
    let rejected = workspace.run(&["deploy"]).stderr;
    assert!(rejected.contains("`subjekt` is not a field of these events"), "{rejected}");
    assert!(rejected.contains("The fields are `source`"), "{rejected}");
    assert!(workspace.fails(3, &["trigger", "get", "lande"]).contains("`landed`"));
}

#[test]
fn a_new_schedule_in_the_past_is_rejected() {
    let workspace = workspace();
    let declared = |name: &str, at: &str, catchup: &str| {
        let schedule = format!("{{ cron = \"at({at})\", catchup = \"{catchup}\" }}");
        format!("\n[[trigger]]\nname = \"{name}\"\nschedule = {schedule}\nrun = true\n")
    };
    let write = |triggers: &str| workspace.write("headwater.toml", format!("{PROJECT}{triggers}"));
    write(&declared("once", "2020-01-01T00:00:00", "once"));
    let told = workspace.fails(2, &["deploy"]);
    let expected = "trigger `once` cannot be used: the time `at(2020-01-01T00:00:00)` has passed \
                    (headwater.toml:10)";
    assert!(told.contains(expected), "{told}");
    let past = ["--schedule", "at(2020-01-01T00:00:00)", "--run"];
    // A schedule that has fired since its deployment does not prevent the next deployment.
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(8);
    let soon = soon.format("%Y-%m-%dT%H:%M:%S").to_string();
    write(&declared("once", &soon, "once"));
    workspace.ok(&["deploy"]);
    let told = workspace.fails(2, &[&["trigger", "create", "late"][..], &past].concat());
    assert!(told.contains("has passed"), "{told}");
    until("the schedule has fired", || {
        workspace.json(&["trigger", "get", "once"])["next"].is_null()
    });
    workspace.write("functions/eight.py", function("eight", 8));
    workspace.ok(&["deploy"]);
    // A deployment can change the policy and the name of a schedule that has fired, but not its
    // time. A second trigger cannot have the same time.
    write(&declared("once", &soon, "all"));
    workspace.ok(&["deploy"]);
    let second = declared("second", &soon, "all");
    write(&format!("{}{second}", declared("once", &soon, "all")));
    assert!(workspace.fails(2, &["deploy"]).contains("trigger `second` cannot be used"));
    write(&second);
    workspace.ok(&["deploy"]);
    write(&declared("second", "2020-01-01T00:00:00", "all"));
    assert!(workspace.fails(2, &["deploy"]).contains("has passed"));
}
