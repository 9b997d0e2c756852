//! CSV imports: accepted files, rejected files and their messages.

use headwater_ingest::Error;
use headwater_model::{ErrorCode, OnError, ToProblem};
use serde_json::json;

use crate::support::Fixture;

#[tokio::test]
async fn inferred_types_represent_every_value_of_every_file() {
    let lake = Fixture::new().await;
    lake.file(
        "a.csv",
        "id,when,price,code,ok,note\n1,2013-01-01,1,007,true,\n2,2013-01-02,,008,false,x\n",
    );
    lake.file("b.csv", "ID,price,extra\n3,2.5,2013-01-01T05:00:00Z\n");
    let plan = lake.plan(&lake.request("t", &[""])).await.unwrap();
    assert!(plan.creates_table);
    assert_eq!(plan.files.len(), 2);
    let price = plan.columns.iter().find(|column| column.name == "price").unwrap();
    assert!(price.reason.contains("`2.5` in line 2 of"), "{}", price.reason);
    assert!(!lake.has_table("t").await);

    let report = lake.import(&lake.request("t", &[""])).await.unwrap();
    assert_eq!((report.rows, report.files, report.created_table), (3, 2, true));
    let expected = [
        "id long",
        "when date",
        "price double",
        "code string",
        "ok boolean",
        "note string",
        "extra timestamptz",
    ];
    assert_eq!(lake.columns("t").await, expected);
    let rows = lake.rows("t").await;
    assert_eq!(rows[0]["code"], "007");
    assert_eq!(rows[0]["note"], json!(null));
    assert_eq!(rows[2]["price"], 2.5);
    assert_eq!(rows[2]["when"], json!(null));
}

#[tokio::test]
async fn a_blank_line_of_a_file_with_one_column_is_null() {
    let lake = Fixture::new().await;
    lake.import_text("s", "s.csv", "a\n\"\"\n\nx\n\n").await.unwrap();
    let rows: Vec<_> = lake.rows("s").await.iter().map(|row| row["a"].clone()).collect();
    assert_eq!(rows, [json!(""), json!(null), json!("x"), json!(null)]);
}

#[tokio::test]
async fn quotes_delimiters_and_encodings_are_detected() {
    let lake = Fixture::new().await;
    lake.import_text("q", "q.csv", "a;b\n\"x;\n\"\"y\"\"\";1\n;2\n\"\";3\n").await.unwrap();
    let rows = lake.rows("q").await;
    assert_eq!(rows[0]["a"], "x;\n\"y\"");
    assert_eq!((&rows[1]["a"], &rows[2]["a"]), (&json!(null), &json!("")));

    lake.file("latin.csv", b"name\tn\nJos\xe9\t1\n");
    let mut request = lake.request("latin", &["latin.csv"]);
    let error = lake.import(&request).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRow);
    assert!(
        error
            .to_string()
            .contains("line 2, column `name`: the line has bytes that are not valid UTF-8")
    );
    assert!(error.hint().unwrap().contains("windows-1252"));
    request.encoding = Some("latin1".into());
    lake.import(&request).await.unwrap();
    assert_eq!(lake.rows("latin").await, [json!({"name": "José", "n": 1})]);

    let utf16: Vec<u8> = "\u{feff}a,b\n1,é\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    lake.file("utf16.csv", utf16);
    lake.import(&lake.request("utf16", &["utf16.csv"])).await.unwrap();
    assert_eq!(lake.rows("utf16").await, [json!({"a": 1, "b": "é"})]);
}

#[tokio::test]
async fn a_file_without_a_header_gets_numbered_columns() {
    let lake = Fixture::new().await;
    lake.file("n.csv", "1,x\n2,y\n");
    let mut request = lake.request("n", &["n.csv"]);
    request.header = Some(false);
    lake.import(&request).await.unwrap();
    assert_eq!(lake.columns("n").await, ["column_1 long", "column_2 string"]);
    assert_eq!(lake.rows("n").await.len(), 2);
}

#[tokio::test]
async fn named_nulls_and_declared_types_override_inference() {
    let lake = Fixture::new().await;
    lake.file("n.csv", "id,delay,code\n1,NA,7\n2,5,8\n");
    let mut request = lake.request("n", &["n.csv"]);
    let plan = lake.plan(&request).await.unwrap();
    assert!(plan.columns[1].reason.contains("--null NA"), "{}", plan.columns[1].reason);
    request.nulls = vec!["NA".into()];
    request.types.insert("CODE".into(), "string".into());
    lake.import(&request).await.unwrap();
    assert_eq!(lake.columns("n").await, ["id long", "delay long", "code string"]);
    request.again = true;
    request.types.insert("nope".into(), "string".into());
    let error = lake.import(&request).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ColumnNotFound);
}

/// Invalid files and their messages.
const BAD: [(&str, &str); 9] = [
    ("id,n\n1,2\n2,x\n", "line 3, column `n`: `x` is not a long"),
    ("id,n\n\"a\nb\",2\n\n\"c\n\",x\n", "line 6, column `n`: `x` is not a long"),
    ("id,n\r\n1,2\r\n2\r\n", "line 3: the row has 1 field, and the header has 2"),
    ("id,n\n1,2,3\n", "line 2: the row has 3 fields, and the header has 2"),
    ("id,n\n1,\"2\n3,4\n", "line 2: a quoted field begins here and is not closed"),
    ("id,n\n1,\"2\"x\n", "line 2: a quoted field is followed by text"),
    ("id,n\n1,9223372036854775808\n", "line 2, column `n`: `9223372036854775808` is not a long"),
    ("id,n\n1,1.5\n", "line 2, column `n`: `1.5` is not a long"),
    ("id,\"n\n1,2\n", "line 1: a quoted field begins here and is not closed"),
];

#[tokio::test]
async fn a_bad_row_stops_the_import_with_file_line_column_and_value() {
    let lake = Fixture::new().await;
    for (index, (text, expected)) in BAD.iter().enumerate() {
        let file = format!("bad{index}.csv");
        let packed = format!("bad{index}.csv.zst");
        lake.file(&file, text);
        lake.file(&packed, zstd::encode_all(text.as_bytes(), 1).unwrap());
        for file in [file, packed] {
            let mut request = lake.request("t", &[&file]);
            request.types.insert("n".into(), "long".into());
            for error in
                [lake.plan(&request).await.unwrap_err(), lake.import(&request).await.unwrap_err()]
            {
                assert!(error.to_string().contains(expected), "{error} | {expected}");
                let Error::BadRow(row) = &error else { panic!("{error}") };
                assert!(row.file.ends_with(&file));
                assert_eq!(error.context()["line"], row.line);
            }
        }
    }
    assert!(!lake.has_table("t").await);
    assert_eq!(lake.data_files(), 0);
}

#[tokio::test]
async fn bad_rows_go_to_the_table_of_rejected_rows_in_the_same_commit() {
    let lake = Fixture::new().await;
    lake.file("a.csv", b"id,n\n1,2\n2,x\n3\n4,\xff\n5,\"6\n7,8\n");
    let mut request = lake.request("t", &["a.csv"]);
    request.types.insert("n".into(), "long".into());
    request.on_error = OnError::Reject;
    let report = lake.import(&request).await.unwrap();
    assert_eq!((report.rows, report.rows_rejected), (2, 4));
    assert_eq!(lake.rows("t").await, [json!({"id": 1, "n": 2}), json!({"id": 7, "n": 8})]);
    let rejected = lake.rows("t__rejected").await;
    let lines: Vec<_> = rejected.iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [3, 4, 5, 6]);
    assert_eq!(rejected[0]["column"], "n");
    assert_eq!(rejected[0]["value"], "x");
    assert_eq!(rejected[0]["row"], "2,x");
    assert!(rejected[0]["imported_at"].is_string());
    let log = lake.lake.catalog().log(&"main".parse().unwrap(), 10, None).await.unwrap();
    assert_eq!(log.len(), 2, "one commit after the first");

    // Further files are added to the existing rows.
    lake.file("b.csv", "id,n\n9,y\n");
    let mut second = request.clone();
    second.types.clear();
    second.sources = lake.request("t", &["b.csv"]).sources;
    lake.import(&second).await.unwrap();
    assert_eq!(lake.rows("t__rejected").await.len(), 5);
}

#[tokio::test]
async fn a_table_gains_columns_and_never_changes_those_it_has() {
    let lake = Fixture::new().await;
    lake.import_text("t", "1.csv", "id,n\n1,2\n").await.unwrap();
    let report = lake.import_text("t", "2.csv", "ID,m\n2,x\n").await.unwrap();
    assert_eq!(report.columns_added, ["m"]);
    let rows = lake.rows("t").await;
    assert_eq!(rows[0], json!({"id": 1, "n": 2, "m": null}));
    assert_eq!(rows[1], json!({"id": 2, "n": null, "m": "x"}));

    let error = lake.import_text("t", "3.csv", "id,n\n3,2.5\n").await.unwrap_err();
    assert!(error.to_string().contains("`2.5` is not a long"), "{error}");
    let mut request = lake.request("t", &["3.csv"]);
    request.types.insert("n".into(), "double".into());
    assert!(matches!(lake.import(&request).await, Err(Error::TypeFixed { .. })));
    assert_eq!(lake.columns("t").await, ["id long", "n long", "m string"]);
}

#[tokio::test]
async fn partitions_are_created_with_the_table() {
    let lake = Fixture::new().await;
    lake.file("p.csv", "Day,n\n2013-01-01,1\n2013-01-02,2\n2013-01-01,3\n");
    let mut request = lake.request("p", &["p.csv"]);
    request.partition = vec!["day(day)".parse().unwrap()];
    lake.import(&request).await.unwrap();
    let table = lake.lake.describe(&"main".parse().unwrap(), &"p".parse().unwrap()).await.unwrap();
    assert_eq!((table.files, table.rows), (2, 3));
    assert_eq!(table.partition[0].to_string(), "day(Day)");
}

#[tokio::test]
async fn empty_files_and_files_with_only_a_header_have_no_rows() {
    let lake = Fixture::new().await;
    lake.file("empty.csv", "");
    let error = lake.import(&lake.request("t", &["empty.csv"])).await.unwrap_err();
    let path = lake.path("empty.csv");
    assert_eq!(error.to_string(), format!("`{}` is empty", path.display()));
    assert_eq!(error.code(), ErrorCode::BadRow);
    let hint = error.hint().unwrap();
    assert!(hint.contains("a header line") && hint.contains("create the table first"), "{hint}");
    lake.file("blank.ndjson", "\n\n");
    let files = ["empty.csv", "blank.ndjson"];
    let error = lake.import(&lake.request("t", &files)).await.unwrap_err();
    assert!(error.to_string().ends_with("and one more file have no columns"), "{error}");
    lake.file("header.csv", "a,b\n");
    let report = lake.import(&lake.request("t", &["empty.csv", "header.csv"])).await.unwrap();
    assert_eq!((report.rows, report.files), (0, 2));
    assert_eq!(lake.columns("t").await, ["a string", "b string"]);
    let again = lake.import(&lake.request("t", &["empty.csv", "header.csv"])).await.unwrap();
    assert_eq!((again.files_skipped, again.commit), (2, None));
}

#[tokio::test]
async fn a_new_column_with_a_misspelt_name_is_reported() {
    let lake = Fixture::new().await;
    let report = lake.import_text("t", "1.csv", "id,name\n1,a\n").await.unwrap();
    assert_eq!(report.columns_misspelt, []);
    lake.file("2.csv", "id,nam\n2,b\n");
    let plan = lake.plan(&lake.request("t", &["2.csv"])).await.unwrap();
    assert_eq!(plan.columns[2].similar_to.as_deref(), Some("name"));
    let report = lake.import(&lake.request("t", &["2.csv"])).await.unwrap();
    assert_eq!(report.columns_added, ["nam"]);
    let [column] = &report.columns_misspelt[..] else { panic!("{report:?}") };
    assert_eq!((column.name.as_str(), column.similar_to.as_deref()), ("nam", Some("name")));
    // A file has the columns `name` and `names`, so `names` is not a misspelt `name`.
    lake.import_text("u", "3.csv", "id,name\n1,a\n").await.unwrap();
    let report = lake.import_text("u", "4.csv", "id,name,names\n3,c,d\n").await.unwrap();
    assert_eq!((report.columns_added.len(), report.columns_misspelt.len()), (1, 0));
}
