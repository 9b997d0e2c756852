//! Typed contracts: schemas as classes, for inputs and results.

use headwater_project::ColumnType;

use super::{check_refused, step};
use crate::support::{self, bauplan_files};

#[test]
fn every_type_of_a_column_is_read() {
    for (written, expected) in [
        ("bauplan.Int64", (Some(ColumnType::Int64), false)),
        ("Int64 | None", (Some(ColumnType::Int64), true)),
        ("None | Int64", (Some(ColumnType::Int64), true)),
        ("Optional[Int64]", (Some(ColumnType::Int64), true)),
        ("bauplan.Bool", (Some(ColumnType::Bool), false)),
        ("bauplan.Int32", (Some(ColumnType::Int32), false)),
        ("bauplan.Float64", (Some(ColumnType::Float64), false)),
        ("bauplan.String | None", (Some(ColumnType::String), true)),
        ("bauplan.Binary", (Some(ColumnType::Binary), false)),
        ("bauplan.Date32", (Some(ColumnType::Date32), false)),
        ("bauplan.Date64", (Some(ColumnType::Date64), false)),
        ("bauplan.TimestampMicro", (Some(ColumnType::TimestampMicro), false)),
        ("bauplan.TimestampNano", (Some(ColumnType::TimestampNano), false)),
        ("bauplan.TimestampMicroUTC", (Some(ColumnType::TimestampMicroUtc), false)),
        ("bauplan.TimestampMicro[bauplan.UTC] | None", (Some(ColumnType::TimestampMicroUtc), true)),
        ("bauplan.TimestampNanoUTC", (Some(ColumnType::TimestampNanoUtc), false)),
        ("bauplan.Any", (None, true)),
        ("Any", (None, true)),
        (
            "Annotated[Int64 | None, bauplan.TableField(doc='d', lineage=Other['a'])]",
            (Some(ColumnType::Int64), true),
        ),
        ("Annotated[Int64, bauplan.TableField(name='a')]", (Some(ColumnType::Int64), false)),
    ] {
        let found = step(&format!(
            "from typing import Annotated, Any, Optional\nimport bauplan\nfrom bauplan import Int64\n\
             class Other(bauplan.TableSchema):\n    a: Int64\n\
             class S(bauplan.TableSchema):\n    '''Rows.'''\n    a: {written}\n\
             @bauplan.model()\ndef m(t=bauplan.Model('t')) -> Annotated[object, S]:\n    return t\n"
        ));
        assert_eq!(found.columns.as_deref(), Some(&["a".to_owned()][..]), "{written}");
        let column = &found.contract[0];
        assert_eq!((column.column_type, column.nullable), expected, "{written}");
    }
}

#[test]
fn schemas_can_be_imported_from_a_module_of_the_project() {
    let others = [
        (
            "shapes.py",
            "import bauplan\nclass Pair(bauplan.TableSchema):\n    a: bauplan.Int64\n    b: bauplan.String\n",
        ),
        (
            "models.py",
            "from typing import Annotated\nimport bauplan\nfrom shapes import Pair as Both\n\
             @bauplan.model()\ndef m(t=bauplan.Model('t', projection_schema=Both)) -> Annotated[object, Both]:\n    return t\n",
        ),
    ];
    let project = support::parse(&bauplan_files("", &others)).unwrap();
    assert_eq!(project.steps[0].inputs[0].columns.as_deref().unwrap(), ["a", "b"]);
    assert_eq!(project.steps[0].columns.as_deref().unwrap(), ["a", "b"]);
}

#[test]
fn wrong_schemas_are_refused_by_name() {
    let model = "@bauplan.model(COLUMNS)\ndef m(t=bauplan.Model('t')) -> Annotated[object, S]:\n    return t\n";
    let with = |body: &str, columns: &str| {
        format!(
            "from typing import Annotated\nclass S(bauplan.TableSchema):\n{body}\n{}",
            model.replace("COLUMNS", columns)
        )
    };
    let cases = [
        (with("    a: int", ""), "`int` is not a column type (models.py:4)"),
        (
            with("    a: bauplan.Int46", ""),
            "`bauplan.Int46` is not a column type (models.py:4)\n  hint: Did you mean `Int64`?",
        ),
        (with("    a: bauplan.Int64 | bauplan.String", ""), "is not a column type"),
        (
            with("    a: Annotated[bauplan.Int64, bauplan.TableField(title='x')]", ""),
            "`TableField` has no argument `title` (models.py:4)",
        ),
        (
            with("    a: bauplan.Int64\n    a: bauplan.String", ""),
            "`S` declares `a` twice (models.py:5)",
        ),
        (with("    pass", ""), "the schema `S` declares no column (models.py:3)"),
        (
            with(
                "    amount: Annotated[bauplan.Int64, bauplan.TableField(lineage=S['amuont'])]",
                "",
            ),
            "the schema `S` has no column `amuont` (models.py:4)\n  hint: Did you mean `amount`?",
        ),
        (
            with("    a: Annotated[bauplan.Int64, bauplan.TableField(lineage=[T['a']])]", ""),
            "`T` is not a class with the base `bauplan.TableSchema` (models.py:4)",
        ),
        (
            with("    a: bauplan.Int64", "columns=['a']"),
            "the model has both `columns` and a schema as its return type (models.py:5)",
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(code, expected)| (code.as_str(), *expected)).collect();
    check_refused(&cases);
    check_refused(&[(
        "from typing import Annotated\nclass S:\n    a: int\n@bauplan.model()\ndef m(t=bauplan.Model('t')) -> Annotated[object, S]:\n    return t\n",
        "`S` is not a class with the base `bauplan.TableSchema` (models.py:6)",
    )]);
}

#[test]
fn lineage_names_columns_of_the_schemas_of_inputs() {
    let shapes = "import bauplan\nfrom typing import Annotated\n\
                  class Orders(bauplan.TableSchema):\n    id: bauplan.Int64\n    \
                  paid: Annotated[bauplan.Int64, bauplan.TableField(name='amount')]\n";
    let models = "from typing import Annotated\nimport bauplan\nfrom shapes import Orders as In\n\
                  class Rates(bauplan.TableSchema):\n    rate: bauplan.Float64\n\
                  class Other(bauplan.TableSchema):\n    x: bauplan.Int64\n\
                  class Out(bauplan.TableSchema):\n    \
                  total: Annotated[bauplan.Int64, bauplan.TableField(lineage=[In['paid'], Rates['rate']])]\n    \
                  key: Annotated[bauplan.Int64, bauplan.TableField(lineage=In['id'])]\n    \
                  x: Annotated[bauplan.Int64, bauplan.TableField(lineage=Other['x'])]\n    \
                  n: bauplan.Int64\n\
                  @bauplan.model()\ndef m(\n    \
                  rates: Annotated[object, bauplan.Model('rates', projection_schema=Rates)],\n    \
                  orders: Annotated[object, bauplan.Model('orders', projection_schema=In)],\n\
                  ) -> Annotated[object, Out]:\n    return orders\n";
    let files = bauplan_files("", &[("shapes.py", shapes), ("models.py", models)]);
    let project = support::parse(&files).unwrap();
    let step = &project.steps[0];
    let shown = |column: &str| {
        let sources = step.lineage.get(column)?.iter();
        let sources =
            sources.map(|one| format!("{}.{}", step.inputs[one.input].table.name, one.column));
        Some(sources.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(shown("total").as_deref(), Some("orders.amount rates.rate"));
    assert_eq!(shown("key").as_deref(), Some("orders.id"));
    // No input has the schema `Other`, and the contract says nothing about `n`.
    assert_eq!((shown("x"), shown("n")), (None, None));
}
