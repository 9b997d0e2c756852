//! Inputs: default arguments and annotations.

use headwater_project::{ParameterInput, StepInput};

use super::{check_refused, step};

/// Returns the inputs and parameters of a model whose decorator has these arguments.
fn inputs(arguments: &str) -> (Vec<StepInput>, Vec<ParameterInput>) {
    let code = format!(
        "from typing import Annotated\nimport pyarrow\nimport bauplan\n\n\
         class Two(bauplan.TableSchema):\n    b: bauplan.Int64\n    a: bauplan.String | None\n\n\
         @bauplan.model()\ndef m({arguments}):\n    return None\n"
    );
    let found = step(&code);
    (found.inputs, found.parameters)
}

/// Returns an input as `argument table columns filter ref`.
fn shown(input: &StepInput) -> String {
    let columns = input.columns.as_ref().map_or("*".to_owned(), |columns| columns.join(","));
    let filter = input.filter.as_deref().unwrap_or("-");
    let reference = input.reference.as_ref().map_or("-".to_owned(), ToString::to_string);
    format!(
        "{} {} {columns} [{filter}] {reference}",
        input.argument.as_deref().unwrap_or("?"),
        input.table
    )
}

#[test]
fn every_supported_table_type_is_read() {
    for (argument, expected) in [
        ("data=bauplan.Model('t')", "data bauplan.t * [-] -"),
        ("data=bauplan.Model(name='ns.t')", "data ns.t * [-] -"),
        ("data=bauplan.Model('t', columns=['b', 'a'])", "data bauplan.t b,a [-] -"),
        ("data=bauplan.Model('t', columns=['*'])", "data bauplan.t * [-] -"),
        (
            "data=bauplan.Model('t', filter=\"a >= 1 AND b = 'x'\")",
            "data bauplan.t * [a >= 1 AND b = 'x'] -",
        ),
        ("data=bauplan.Model('t', ref='ada.dev')", "data bauplan.t * [-] ada.dev"),
        (
            "data=bauplan.Model('t', ref='main@0123456789abcdef')",
            "data bauplan.t * [-] main@0123456789abcdef",
        ),
        ("data=bauplan.Model('t', ref=None, connector=None)", "data bauplan.t * [-] -"),
        ("data=bauplan.Model('t', projection_schema=Two)", "data bauplan.t b,a [-] -"),
        ("data: Annotated[pyarrow.Table, bauplan.Model('t')]", "data bauplan.t * [-] -"),
        (
            "data: Annotated[pyarrow.Table, bauplan.Model('t', projection_schema=Two, filter='a > 1')]",
            "data bauplan.t b,a [a > 1] -",
        ),
        ("data: pyarrow.Table = bauplan.Model('t')", "data bauplan.t * [-] -"),
        ("*, data=bauplan.Model('t')", "data bauplan.t * [-] -"),
    ] {
        let (found, parameters) = inputs(argument);
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), [expected], "{argument}");
        assert!(parameters.is_empty(), "{argument}");
    }
}

#[test]
fn parameters_are_arguments_or_in_filters() {
    let arguments = "data=bauplan.Model('t', filter='a > $size AND b = $day'), day=bauplan.Parameter('day'), \
                     size: Annotated[int, bauplan.Parameter('size')] = None, limit=10";
    let (tables, parameters) = inputs(arguments);
    assert_eq!(tables.len(), 1);
    let used: Vec<_> =
        parameters.iter().map(|one| (one.argument.as_deref(), one.name.as_str())).collect();
    assert_eq!(used, [(None, "size"), (None, "day"), (Some("day"), "day"), (Some("size"), "size")]);
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    let with = |argument: &str| {
        format!(
            "from typing import Annotated\n@bauplan.model()\ndef m({argument}):\n    return None\n"
        )
    };
    let cases = [
        (
            "data",
            "the argument `data` of `m` has no input (models.py:4)\n  hint: Write `data=bauplan.Model(\"table\")`.",
        ),
        ("data=bauplan.Model()", "`Model` has no name (models.py:4)"),
        ("data=bauplan.Model", "`Model` has no name"),
        ("data=bauplan.Model('t', 'a')", "`Model` has too many positional arguments"),
        ("data=bauplan.Model('t', colums=['a'])", "hint: Did you mean `columns`?"),
        ("data=bauplan.Model(NAME)", "`name` of `Model` is not a literal"),
        ("data=bauplan.Model('t', filter=f'a = {x}')", "`filter` of `Model` is not a literal"),
        ("data=bauplan.Model('t', filter='a = ')", "`filter` cannot be used"),
        (
            "data=bauplan.Model('t', filter='a = $other')",
            "uses parameter `other`, which the project does not declare",
        ),
        ("data=bauplan.Model('t', columns=['a', 'a'])", "`Model` lists the column `a` twice"),
        (
            "data=bauplan.Model('t', connector='snowflake')",
            "`connector` of `Model` is not supported (models.py:4)\n  hint: Import the table into the lake, and read the imported table.",
        ),
        (
            "data=bauplan.Model('t', connector_config_key='k')",
            "`connector_config_key` of `Model` is not supported",
        ),
        ("data=bauplan.Model('t', ref='a b')", "`a b`"),
        (
            "data=bauplan.Model('t', projection_schema=Missing)",
            "`Missing` is not a class with the base `bauplan.TableSchema`",
        ),
        (
            "data: Annotated[object, bauplan.Model('a')] = bauplan.Model('b')",
            "the argument `data` of `m` has two inputs",
        ),
        (
            "data=bauplan.Parameter('sise')",
            "which the project does not declare (models.py:4)\n  hint: Did you mean `size`?",
        ),
        ("data=bauplan.Parameter()", "`Parameter` has no name"),
        (
            "data=bauplan.Model('t', filter='a = $token')",
            "SQL of `bauplan.m` uses `token`, which is a secret (models.py:4)",
        ),
        ("*data", "`m` accepts arbitrary arguments with `*data`"),
        ("data=bauplan.Model('t'), /", "`m` has the positional-only argument `data`"),
    ];
    let cases: Vec<_> = cases.iter().map(|(code, expected)| (with(code), *expected)).collect();
    let cases: Vec<_> = cases.iter().map(|(code, expected)| (code.as_str(), *expected)).collect();
    check_refused(&cases);
}
