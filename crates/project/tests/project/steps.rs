//! Names and tags of steps.

use crate::support::{files, refusal};

#[test]
fn two_steps_of_one_name_are_refused() {
    let python = "import headwater\n\n@headwater.model()\ndef m(): pass\n";
    insta::assert_snapshot!(refusal(&files("", &[("models.py", python), ("m.sql", "SELECT 1")])), @r"
    invalid_project: duplicate definition of `m` in m.sql:1 and models.py:4
      hint: Rename one of the definitions.
    ");
    let check =
        "import headwater\n@headwater.expectation()\ndef m(a=headwater.Model(\"x\")): pass\n";
    insta::assert_snapshot!(refusal(&files("", &[("checks.py", check), ("m.sql", "SELECT 1")])), @r"
    invalid_project: duplicate definition of `m` in checks.py:3 and m.sql:1
      hint: Rename one of the definitions.
    ");
}

#[test]
fn names_that_no_model_can_have_are_refused() {
    let two = files("", &[("A.sql", "SELECT 1"), ("a.sql", "SELECT 2")]);
    insta::assert_snapshot!(refusal(&two), @r"
    invalid_project: duplicate definition of `a` in A.sql:1 and a.sql:1
      hint: Rename one of the definitions.
    ");
    let own = files("", &[("a.sql", "-- headwater: name = system.a\nSELECT 1")]);
    insta::assert_snapshot!(refusal(&own), @r"
    invalid_project: `system.a` is in a namespace that is reserved for Headwater (a.sql:1)
      hint: Choose another namespace.
    ");
}

#[test]
fn tags_that_no_selector_can_name_are_refused() {
    let sql = "-- headwater: tags = a b\nSELECT 1 AS a";
    insta::assert_snapshot!(refusal(&files("", &[("m.sql", sql)])), @r"
    invalid_project: `a b` is not a tag (m.sql:1)
      hint: Use letters, digits, `_`, `-`, `.` and `/`.
    ");
    let python = "import headwater\n@headwater.model(tags=[\"a,b\"])\ndef m(): pass\n";
    insta::assert_snapshot!(refusal(&files("", &[("m.py", python)])), @r"
    invalid_project: `a,b` is not a tag (m.py:2)
      hint: Use letters, digits, `_`, `-`, `.` and `/`.
    ");
}
