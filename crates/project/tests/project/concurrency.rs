//! Reserved and provisioned concurrency of functions.

use headwater_project::CallConcurrency;

use crate::support::{files, parse, refusal};

/// Returns a file with the function `f`, whose decorator has these arguments.
fn function(arguments: &str) -> String {
    format!("import headwater\n\n@headwater.function({arguments})\ndef f(event):\n    return 1\n")
}

#[test]
fn the_decorator_and_the_project_file_set_the_concurrency() {
    let manifest = "[functions.g]\ncommand = [\"yes\"]\nprovisioned_concurrency = 3\n\n\
                    [functions.h]\ncommand = [\"yes\"]\n";
    let source = function("reuse=True, reserved_concurrency=5, provisioned_concurrency=2");
    let project = parse(&files(manifest, &[("functions/f.py", &source)])).unwrap();
    let concurrency = |name: &str| project.callables[name].concurrency;
    assert_eq!(concurrency("f"), CallConcurrency { reserved: Some(5), provisioned: 2 });
    assert_eq!(concurrency("g"), CallConcurrency { reserved: None, provisioned: 3 });
    assert_eq!(concurrency("h"), CallConcurrency::default());
}

#[test]
fn invalid_numbers_are_rejected_in_the_decorator_and_in_the_project_file() {
    for (numbers, expected) in [
        (["1", "2"], "`provisioned_concurrency` is greater than `reserved_concurrency`"),
        (["10001", "0"], "`reserved_concurrency` is 10001 (limit 10000)"),
    ] {
        let [reserved, provisioned] = numbers;
        let source = function(&format!(
            "reserved_concurrency={reserved}, provisioned_concurrency={provisioned}"
        ));
        let error = refusal(&files("", &[("functions/f.py", &source)]));
        assert!(error.contains(expected), "{error}");
        let manifest = format!(
            "[functions.g]\ncommand = [\"yes\"]\nreserved_concurrency = {reserved}\n\
             provisioned_concurrency = {provisioned}\n"
        );
        let error = refusal(&files(&manifest, &[]));
        assert!(error.contains(expected), "{error}");
    }
}
