//! Daily budgets of functions, in Python and in the project file.

use headwater_model::{DailyBudget, ProjectFiles};

use crate::support::{files, parse, refusal};

const BUDGET: DailyBudget = DailyBudget {
    calls_per_day: Some(1_000),
    billed_ms_per_day: Some(7_200_000),
    money_per_day: Some(2.5),
};

fn in_python(arguments: &str) -> ProjectFiles {
    let function = format!(
        "import headwater\n\n@headwater.function({arguments})\ndef f(event):\n    return event\n"
    );
    files("", &[("f.py", &function)])
}

fn in_manifest(keys: &str) -> ProjectFiles {
    files(&format!("[functions.f]\ncommand = [\"cat\"]\n{keys}"), &[])
}

fn budget(files: &ProjectFiles) -> DailyBudget {
    parse(files).unwrap().callables["f"].budget
}

#[test]
fn budgets_of_both_kinds_are_read() {
    let python = "calls_per_day=1000, time_per_day='2h', money_per_day=2.5";
    assert_eq!(budget(&in_python(python)), BUDGET);
    let keys = "calls_per_day = 1000\ntime_per_day = \"2h\"\nmoney_per_day = 2.5\n";
    assert_eq!(budget(&in_manifest(keys)), BUDGET);
    assert!(budget(&in_python("")).is_empty() && budget(&in_manifest("")).is_empty());
    // A budget of zero is valid, and permits no call.
    assert_eq!(budget(&in_python("money_per_day=0")).money_per_day, Some(0.0));
}

#[test]
fn invalid_budgets_are_rejected_with_their_line() {
    for (arguments, expected) in [
        ("calls_per_day=-1", "calls_per_day"),
        ("calls_per_day=1.5", "calls_per_day"),
        ("time_per_day='soon'", "time_per_day"),
        ("money_per_day='much'", "money_per_day"),
    ] {
        let error = refusal(&in_python(arguments));
        assert!(error.contains(expected) && error.contains("f.py:3"), "{error}");
    }
    for (keys, expected) in [
        ("calls_per_day = -1\n", "headwater.toml"),
        ("time_per_day = \"soon\"\n", "`soon` is not a duration (headwater.toml:5)"),
        ("money_per_day = -0.5\n", "`-0.5` is not an amount of money (headwater.toml:5)"),
        ("money_per_day = inf\n", "`inf` is not an amount of money (headwater.toml:5)"),
    ] {
        let error = refusal(&in_manifest(keys));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_budget_that_permits_no_call_is_rejected() {
    let expected = "`time_per_day` of `f` is 10s, less than its timeout of 11s";
    let python = refusal(&in_python("time_per_day='10s', timeout='11s'"));
    assert!(python.contains(expected) && python.contains("f.py:"), "{python}");
    let manifest = refusal(&in_manifest("time_per_day = \"10s\"\ntimeout = \"11s\"\n"));
    assert!(manifest.contains(expected) && manifest.contains("headwater.toml:"), "{manifest}");
    let default = refusal(&in_python("time_per_day='10s'"));
    assert!(default.contains("less than its timeout of 3600s"), "{default}");
    // Each call reserves its whole timeout.
    let equal = in_python("time_per_day='90s', timeout='90s'");
    assert_eq!(budget(&equal).billed_ms_per_day, Some(90_000));
}
