//! Writing and reading rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{ErrorCode, Problem, ToProblem};
use headwater_tables::{
    TableOperation, Tables, TablesOptions, check_types, check_values, parse_type,
};
use object_store::memory::InMemory;
use serde_json::json;

use crate::fixture::{Warehouse, json_batch, request, rows_at, stream_of, to_json};

#[tokio::test]
async fn rows_of_every_type_are_read_back() {
    let warehouse = Warehouse::new();
    let columns = [
        ("id", "long!"),
        ("flag", "boolean"),
        ("small", "int"),
        ("share", "float"),
        ("amount", "double"),
        ("price", "decimal(10, 2)"),
        ("wide", "decimal(38, 5)"),
        ("day", "date"),
        ("at", "time"),
        ("local", "timestamp"),
        ("moment", "timestamptz"),
        ("name", "string"),
        ("bytes", "binary"),
        ("tags", "list<string>"),
        ("place", "struct<lat: double, names: list<string>>"),
        ("counts", "map<string, int>"),
    ];
    let table = warehouse.create(&columns, &[]).await;
    let rows = json!([
        {
            "id": 1, "flag": true, "small": -7, "share": 0.5, "amount": 1e100, "price": "12.34",
            "wide": "-1.00001", "day": "2013-01-01", "at": "10:11:12.000013",
            "local": "1969-12-31T23:59:59.999999", "moment": "2013-01-01T05:00:00Z", "name": "Zoë",
            "bytes": "00ff", "tags": ["a", "b"], "place": {"lat": 40.7, "names": ["NYC"]},
            "counts": {"x": 1}
        },
        {"id": 2},
        {"id": 3, "tags": [], "place": {}, "counts": {}}
    ]);
    let table = warehouse.append(&table, rows).await;
    let before = warehouse.rows(&table).await;
    assert_eq!(before[0]["moment"], "2013-01-01T05:00:00Z");
    assert_eq!(before[0]["place"], json!({"lat": 40.7, "names": ["NYC"]}));
    assert_eq!(before[1], json!({"id": 2}));
    assert_eq!(before[2], json!({"id": 3, "tags": [], "place": {}, "counts": {}}));

    let other = warehouse.reopened();
    let loaded = other.load(table.metadata_location()).await.unwrap();
    assert_eq!(loaded.schema(), table.schema());
    assert_eq!(rows_at(&other, &loaded, None).await, before);
    let described = loaded.describe(&"t".parse().unwrap());
    let types: Vec<_> = described.columns.iter().map(|column| column.data_type.as_str()).collect();
    assert_eq!(types, columns.map(|(_, text)| text.trim_end_matches('!')));
    assert!(!described.columns[0].nullable);
    assert_eq!((described.rows, described.files), (3, 1));
}

#[tokio::test]
async fn columns_match_by_name_and_missing_ones_are_null() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int"), ("b", "string"), ("c", "date")], &[]).await;
    let schema = Schema::new(vec![
        Field::new("B", DataType::LargeUtf8, false),
        Field::new("a", DataType::Int64, false),
    ]);
    let text = Arc::new(arrow::array::LargeStringArray::from(vec!["x"]));
    let numbers = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![text, numbers]).unwrap();
    let staged = warehouse.tables.write(&table, stream_of(batch)).await.unwrap();
    let table = warehouse.commit(&table, TableOperation::Append(staged)).await;
    assert_eq!(warehouse.rows(&table).await, json!([{"a": 1, "b": "x"}]));
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_an_error_and_leaves_no_files() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("id", "long!"), ("n", "int")], &["n"]).await;
    let check = async |batch: RecordBatch, message: &str, code: ErrorCode| {
        let good = json_batch(&table.schema(), &json!([{"id": 1, "n": 1}]));
        let rows = stream::iter([Ok(good), Ok(batch)]).boxed();
        let error = warehouse.tables.write(&table, rows).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.code()), (message, code));
        assert_eq!(warehouse.files(&table, ".parquet").len(), 0, "files are left behind");
    };
    let batch = |columns: Vec<(&str, Arc<dyn Array>)>| RecordBatch::try_from_iter(columns).unwrap();
    let ids = || Arc::new(Int64Array::from(vec![1, 2])) as Arc<dyn Array>;
    let large = Arc::new(Int64Array::from(vec![1, 1 << 40]));
    check(
        batch(vec![("id", ids()), ("n", large)]),
        "column `n` has the value `1099511627776` of type `long`, which does not fit the table's \
         type `int`",
        ErrorCode::BadRow,
    )
    .await;
    check(
        batch(vec![("id", Arc::new(Int64Array::from(vec![Some(1), None])))]),
        "column `id` is required, but null in 1 rows",
        ErrorCode::BadRow,
    )
    .await;
    check(batch(vec![("n", ids())]), "the rows lack the required column `id`", ErrorCode::BadRow)
        .await;
    check(
        batch(vec![("id", ids()), ("n", Arc::new(StringArray::from(vec!["1", "2"])))]),
        "column `n` has type `string`, but the table has type `int`",
        ErrorCode::BadRow,
    )
    .await;
    check(
        batch(vec![("id", ids()), ("m", ids())]),
        "the table has no column `m`",
        ErrorCode::ColumnNotFound,
    )
    .await;
}

#[tokio::test]
async fn an_input_error_keeps_its_code_and_leaves_no_files() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("id", "long")], &[]).await;
    let good = json_batch(&table.schema(), &json!([{"id": 1}]));
    let problem = Problem::new(ErrorCode::Cancelled, "stopped");
    let bad = ArrowError::ExternalError(Box::new(problem));
    let rows = stream::iter([Ok(good), Err(bad)]).boxed();
    let error = warehouse.tables.write(&table, rows).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    assert_eq!(warehouse.files(&table, ".parquet").len(), 0);
}

#[tokio::test]
async fn a_large_write_creates_several_files_in_row_order() {
    let warehouse = Warehouse::with(|options| {
        options.target_file_bytes = 200_000;
        options.row_group_rows = 10_000;
    });
    let table = warehouse.create(&[("id", "long"), ("text", "string")], &[]).await;
    let schema = table.schema();
    let batches = (0..20).map(move |batch: i64| {
        let ids = (batch * 5_000)..((batch + 1) * 5_000);
        // The digits of these products can hardly be compressed.
        let texts = ids.clone().map(|id| format!("{}", id.wrapping_mul(6_364_136_223_846_793_005)));
        let texts = Arc::new(StringArray::from_iter_values(texts));
        let ids = Arc::new(ids.collect::<Int64Array>());
        RecordBatch::try_new(schema.clone(), vec![ids, texts])
    });
    let staged = warehouse.tables.write(&table, stream::iter(batches).boxed()).await.unwrap();
    assert!(staged.files() > 2, "{} files", staged.files());
    let table = warehouse.commit(&table, TableOperation::Append(staged)).await;
    assert_eq!(table.rows(), 100_000);
    let plan = warehouse.tables.plan(&table, None).await.unwrap();
    assert!(plan.files().iter().all(|file| file.bytes < 400_000));
    assert!(plan.files()[0].split_offsets().len() > 1, "row groups are closed before files");
    let columns = ["id".to_owned()];
    let read = warehouse.tables.read(&table, plan.files(), Some(&columns), None).unwrap();
    let mut next = 0;
    for batch in read.try_collect::<Vec<_>>().await.unwrap() {
        for id in batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values() {
            assert_eq!(*id, next);
            next += 1;
        }
    }
    assert_eq!(next, 100_000);
}

#[tokio::test]
async fn a_read_can_select_columns_and_limit_rows() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int"), ("b", "string")], &[]).await;
    let table = warehouse.append(&table, json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])).await;
    let table = warehouse.append(&table, json!([{"a": 3, "b": "z"}])).await;
    let plan = warehouse.tables.plan(&table, None).await.unwrap();
    let read = async |columns: Option<&[String]>, limit| {
        let rows = warehouse.tables.read(&table, plan.files(), columns, limit).unwrap();
        rows.try_collect::<Vec<_>>().await.unwrap()
    };
    let both = ["b".to_owned(), "a".to_owned()];
    let batches = read(Some(&both), Some(2)).await;
    assert_eq!(to_json(&batches), json!([{"b": "x", "a": 1}, {"b": "y", "a": 2}]));
    let counted = read(Some(&[]), None).await;
    assert_eq!(counted.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    let wrong = ["c".to_owned()];
    let error = warehouse.tables.read(&table, plan.files(), Some(&wrong), None).err().unwrap();
    assert_eq!(error.to_string(), "the table has no column `c`");
}

#[tokio::test]
async fn tables_work_on_any_object_store() {
    let options = TablesOptions::new("memory://lake");
    let tables = Tables::new(Arc::new(InMemory::new()), options);
    let table = tables.create(request(&[("id", "long")], &[])).await.unwrap();
    let batch = json_batch(&table.schema(), &json!([{"id": 5}]));
    let staged = tables.write(&table, stream_of(batch)).await.unwrap();
    let operation = TableOperation::Append(staged);
    let table = tables.commit(&table, operation, BTreeMap::new()).await.unwrap();
    assert_eq!(rows_at(&tables, &table, None).await, json!([{"id": 5}]));
}

#[tokio::test]
async fn discarding_deletes_the_files() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("id", "long")], &[]).await;
    let staged = warehouse.write(&table, json!([{"id": 1}])).await.unwrap();
    assert_eq!(warehouse.files(&table, ".parquet").len(), 1);
    warehouse.tables.discard(staged.clone()).await.unwrap();
    assert_eq!(warehouse.files(&table, ".parquet").len(), 0);
    warehouse.tables.discard(staged).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_write_leaves_no_files() {
    let warehouse = Warehouse::with(|options| options.target_file_bytes = 1);
    let table = warehouse.create(&[("id", "long")], &[]).await;
    let batch = json_batch(&table.schema(), &json!([{"id": 1}]));
    let endless = stream::iter([Ok(batch.clone()), Ok(batch)]).chain(stream::pending()).boxed();
    let writing = tokio::spawn({
        let (tables, table) = (warehouse.tables.clone(), table.clone());
        async move { tables.write(&table, endless).await }
    });
    let until = async |files: usize| {
        let found = async {
            while warehouse.files(&table, ".parquet").len() != files {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), found).await.unwrap();
    };
    until(2).await;
    writing.abort();
    until(0).await;
}

#[test]
fn types_are_checked_without_rows() {
    let column = |name: &str, text: &str| Field::new(name, parse_type(text).unwrap(), true);
    let table = Schema::new(vec![column("a", "int"), column("b", "list<int>")]);
    let check = |columns: Vec<Field>| check_types(&Schema::new(columns), &table);
    check(vec![column("a", "long"), column("b", "list<long>"), column("c", "string")]).unwrap();
    let error = check(vec![column("a", "int"), column("b", "list<string>")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column `b.element` has type `string`, but the table has type `int`"
    );
    let required = Schema::new(vec![column("A", "int").with_nullable(false)]);
    let check = |name: &str| check_types(&Schema::new(vec![column(name, "int")]), &required);
    check("a").unwrap();
    assert_eq!(check("b").unwrap_err().to_string(), "the rows lack the required column `A`");
}

#[test]
fn values_are_checked_before_they_are_written() {
    let column = |name: &str, text: &str| Field::new(name, parse_type(text).unwrap(), true);
    let table = Schema::new(vec![column("a", "int"), column("b", "string")]);
    let check = |numbers: Vec<i64>| {
        let columns: Vec<(&str, Arc<dyn Array>)> = vec![
            ("a", Arc::new(Int64Array::from(numbers.clone()))),
            ("more", Arc::new(Int64Array::from(numbers))),
        ];
        check_values(&RecordBatch::try_from_iter(columns).unwrap(), &table)
    };
    check(vec![1, 2]).unwrap();
    let error = check(vec![1, 1 << 40]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRow);
    assert!(error.to_string().starts_with("column `a` has the value `1099511627776`"), "{error}");
}
