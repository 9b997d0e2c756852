//! Mistakes in functions: deployments that are rejected, and the hints of failed calls.

mod support;

use support::Workspace;

const SOURCE: &str = "def handler(event, context):\n    return event\n";

/// Writes a project file that declares the function `project` with these settings.
fn declare(workspace: &Workspace, settings: &str) {
    let manifest = format!("[project]\nname = \"test\"\n[functions.project]\n{settings}\n");
    workspace.write("headwater.toml", manifest);
}

#[test]
fn a_function_that_can_never_run_is_not_deployed() {
    let workspace = Workspace::new();
    let inner = "def main():\n    def handler(event, context):\n        return 1\n";
    workspace.write("price/app.py", inner);
    workspace.write("price/made.py", "handler = (lambda: print)()\n");
    workspace.write("price/broken.py", "import json\ndef handler(:\n");
    for (runtime, handler, expected) in [
        ("python3.99", "made.handler", "there is no Python `3.99` on this machine; found: 3."),
        ("python3.11", "app.handler", "`app.py` does not define `handler` at its top level"),
        ("python3.11", "broken.handler", "line 2 of the file `broken.py` of the handler"),
        ("python3.11", "latin.handler", "not UTF-8"),
    ] {
        // A deployment of the project reads all files, so this file would hide the other mistakes.
        if handler == "latin.handler" {
            let latin = b"def handler(event, context):\n    return '\xe9'\n";
            workspace.write("price/latin.py", latin);
        }
        let arguments = ["function", "deploy", "price", "price", "--runtime", runtime];
        let told = workspace.fails(2, &[&arguments[..], &["--handler", handler]].concat());
        assert!(told.contains(expected), "{told}");
        let settings =
            format!("runtime = \"{runtime}\"\nhandler = \"{handler}\"\nfolder = \"price\"");
        declare(&workspace, &settings);
        let told = workspace.run(&["deploy"]);
        assert!(told.code != 0 && told.stderr.contains(expected), "{}", told.stderr);
    }
    let made = ["function", "deploy", "price", "price", "--runtime", "python3.11"];
    workspace.ok(&[&made[..], &["--handler", "made.handler"]].concat());
}

#[test]
fn an_invalid_version_of_a_package_is_not_deployed() {
    let workspace = Workspace::new();
    workspace.write("price/app.py", "def handler(event, context):\n    return 1\n");
    workspace.write("price/requirements.txt", "polars=>1\n");
    let arguments = ["function", "deploy", "price", "price", "--runtime", "python3.11"];
    let told = workspace.fails(2, &[&arguments[..], &["--handler", "app.handler"]].concat());
    assert!(told.contains("`=>1` is not a version of `polars`"), "{told}");
    let settings = "runtime = \"python3.11\"\nhandler = \"app.handler\"\nfolder = \"price\"\n\
                    packages = { pandas = \"not a version\" }";
    declare(&workspace, settings);
    for arguments in [&["deploy"][..], &["deploy", "--dry-run"]] {
        let told = workspace.run(arguments);
        let expected = "`not a version` is not a version of `pandas`";
        assert!(told.code != 0 && told.stderr.contains(expected), "{}", told.stderr);
    }
}

#[test]
fn hints_name_the_settings_of_the_kind_of_function() {
    let workspace = Workspace::new();
    let code = "import socket\n\n\ndef handler(event, context):\n    \
                if event == 'module':\n        import missing_module\n    socket.gethostbyname('api.example.invalid')\n";
    workspace.write("call/app.py", code);
    let arguments = ["function", "deploy", "single", "call", "--runtime", "python3.11"];
    workspace.ok(&[&arguments[..], &["--handler", "app.handler"]].concat());
    declare(&workspace, "runtime = \"python3.11\"\nhandler = \"app.handler\"\nfolder = \"call\"");
    workspace.ok(&["deploy"]);
    for (function, event, expected) in [
        ("single", "module", "Add `\"missing-module\"` to `requirements.txt`"),
        ("single", "host", "Deploy the function again with `--network HOST:PORT`"),
        ("project", "module", "to `packages` of the function in `headwater.toml`"),
        ("project", "host", "Set `network = [\"HOST:PORT\"]` of the function in `headwater.toml`"),
    ] {
        let event = format!("event={event}");
        let told = workspace.fails(5, &["function", "invoke", function, "--arg", &event]);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_similar_function_without_a_project_is_suggested() {
    let workspace = Workspace::new();
    workspace.write("call/app.py", "def handler(event, context):\n    return event\n");
    let arguments = ["function", "deploy", "hello", "call", "--runtime", "python3.11"];
    workspace.ok(&[&arguments[..], &["--handler", "app.handler"]].concat());
    insta::assert_snapshot!(workspace.fails(3, &["function", "invoke", "helo"]), @r"
    error: function `helo` does not exist
      hint: Did you mean `hello`?
    ");
}

#[test]
fn watching_a_function_that_the_working_folder_does_not_define_fails() {
    let workspace = Workspace::new();
    workspace.write("call/app.py", "def handler(event, context):\n    return event\n");
    declare(&workspace, "runtime = \"python3.11\"\nhandler = \"app.handler\"\nfolder = \"call\"");
    let arguments = ["function", "deploy", "single", "call", "--runtime", "python3.11"];
    workspace.ok(&[&arguments[..], &["--handler", "app.handler"]].concat());
    for (name, expected) in [
        ("single", "Call the deployed function without `--working-folder` and `--watch`."),
        ("unknown", "List the functions with `headwater function ls`."),
    ] {
        let arguments = ["function", "invoke", name, "--arg", "event=1", "--watch"];
        let told = workspace.fails(3, &arguments);
        assert!(told.contains(&format!("has no function `{name}`")), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_memory_limit_with_which_no_call_can_succeed_is_rejected() {
    let workspace = Workspace::new();
    workspace.write("call/app.py", "def handler(event, context):\n    return event\n");
    let decorated =
        "import headwater\n\n\n@headwater.function(memory=MEMORY)\ndef f():\n    pass\n";
    for (memory, hint) in
        [("256", "Write the unit, as in `256MiB`."), ("1MiB", "Raise `memory` to `16MiB` or more.")]
    {
        let arguments = ["function", "deploy", "single", "call", "--runtime", "python3.11"];
        let more = ["--handler", "app.handler", "--memory", memory];
        let told = workspace.fails(2, &[&arguments[..], &more].concat());
        assert!(told.contains("is below the minimum of 16 MiB"), "{told}");
        assert!(told.contains(hint), "{told}");
        let command = format!("command = [\"cat\"]\nmemory = \"{memory}\"");
        declare(&workspace, &command);
        workspace.write("f.py", decorated.replace("MEMORY", &format!("{memory:?}")));
        let told = workspace.run(&["deploy"]).stderr;
        for name in ["project", "f"] {
            assert!(told.contains(&format!("the memory limit of `{name}`, ")), "{told}");
        }
        assert!(told.contains(hint), "{told}");
    }
    let arguments = ["function", "deploy", "single", "call", "--runtime", "python3.11"];
    let more = ["--handler", "app.handler", "--memory", "16MiB"];
    workspace.ok(&[&arguments[..], &more].concat());
    assert_eq!(workspace.ok(&["function", "invoke", "single", "--arg", "event=1"]).trim(), "1");
}

#[test]
fn hints_about_limits_name_the_options_of_the_deployment() {
    let workspace = Workspace::new();
    workspace.write(
        "slow/app.py",
        "import time\n\n\ndef handler(event, context):\n    if event == 'large':\n        \
         return 'x' * (65 << 20)\n    time.sleep(60)\n",
    );
    let limits = ["--handler", "app.handler", "--timeout", "2s"];
    let deploy = ["function", "deploy", "slow", "slow", "--runtime", "python3.11"];
    workspace.ok(&[&deploy[..], &limits].concat());
    let slow = workspace.run(&["function", "invoke", "slow", "--arg", "event=1"]).stderr;
    assert!(slow.contains("`slow` ran longer than its limit of 2 s"), "{slow}");
    assert!(slow.contains("Deploy the function again with a higher `--timeout`"), "{slow}");
    let limits = ["--handler", "app.handler", "--timeout", "2min"];
    let deploy = ["function", "deploy", "large", "slow", "--runtime", "python3.11"];
    workspace.ok(&[&deploy[..], &limits].concat());
    let large = workspace.run(&["function", "invoke", "large", "--arg", "event=large"]).stderr;
    let expected = "`large` returned a value larger than the limit of 64 MiB as JSON";
    assert!(large.contains(expected), "{large}");
    assert!(large.contains("Write the value to a bucket, and return its key."), "{large}");
}

#[test]
fn a_limit_on_calls_below_the_provisioned_instances_is_rejected() {
    let workspace = Workspace::new();
    workspace.write("price/app.py", SOURCE);
    let deploy = |limits: &[&str]| {
        let arguments = ["function", "deploy", "price", "price", "--runtime", "python3.11"];
        workspace.run(&[&arguments[..], &["--handler", "app.handler"], limits].concat())
    };
    let (reserved, provisioned) = ("--reserved-concurrency", "--provisioned-concurrency");
    let both = deploy(&[reserved, "1", provisioned, "2"]);
    assert_eq!(both.code, 2, "{}", both.stderr);
    let deployed = deploy(&[reserved, "2", provisioned, "2"]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let lower = deploy(&[reserved, "1"]);
    assert_eq!(lower.code, 2, "{}", lower.stderr);
    let expected = "the reserved concurrency 1 of function `price` is lower than its provisioned \
                    concurrency 2";
    assert!(lower.stderr.contains(expected), "{}", lower.stderr);
    assert!(lower.stderr.contains("hint: Raise the reserved concurrency"), "{}", lower.stderr);
    let fewer = deploy(&[reserved, "1", provisioned, "1"]);
    assert_eq!(fewer.code, 0, "{}", fewer.stderr);
    let stopped = deploy(&[reserved, "0", provisioned, "0"]);
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let call = ["function", "invoke", "price", "--arg", "event=1"];
    let disabled = workspace.run(&call);
    let expected = "function `price` is disabled: its reserved concurrency is 0";
    assert!(disabled.stderr.contains(expected), "{}", disabled.stderr);
    assert!(disabled.stderr.contains("--reset reserved-concurrency"), "{}", disabled.stderr);
    assert_eq!(deploy(&["--reset", "reserved-concurrency"]).code, 0);
    assert_eq!(workspace.run(&call).code, 0);
}

#[test]
fn a_function_that_cannot_have_provisioned_instances_is_rejected() {
    let workspace = Workspace::new();
    workspace.write("price/app.py", SOURCE);
    let deploy = |name: &str, options: &[&str]| {
        let arguments = ["function", "deploy", name, "price", "--runtime", "python3.11"];
        workspace.run(&[&arguments[..], &["--handler", "app.handler"], options].concat())
    };
    let provisioned = ["--provisioned-concurrency", "1"];
    let network = ["--network", "example.com:443"];
    let both = deploy("price", &[provisioned, network].concat());
    assert_eq!(both.code, 2, "{}", both.stderr);
    let expected = "function `price` cannot have provisioned instances: the function has network \
                    access, so each call needs a new instance";
    assert!(both.stderr.contains(expected), "{}", both.stderr);
    assert_eq!(deploy("price", &provisioned).code, 0);
    let later = deploy("price", &network);
    assert_eq!(later.code, 2, "{}", later.stderr);
    assert!(later.stderr.contains("--provisioned-concurrency 0"), "{}", later.stderr);
    assert_eq!(
        deploy("price", &[&network[..], &["--provisioned-concurrency", "0"]].concat()).code,
        0
    );
    let workspace = Workspace::new();
    let source = "import headwater\n\n\n@headwater.function(\n    reuse=True, \
                  network=['example.com:443'], provisioned_concurrency=1\n)\ndef fetch():\n    \
                  return 1\n";
    workspace.write("models/fetch.py", source);
    let deployed = workspace.run(&["deploy"]);
    let expected = "`fetch` has network access, so its process cannot be reused";
    assert!(deployed.stderr.contains(expected), "{}", deployed.stderr);
}
