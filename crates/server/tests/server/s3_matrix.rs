//! Every operation of the S3 endpoint with every kind of credential. The test fails if an operation
//! is missing in the table.

use libtest_mimic::Trial;
use serde_json::json;

use crate::access::Users;
use crate::access_matrix::ALL;
use crate::declared_operations::{self, Mismatches};
use crate::s3_clients::{address, started};
use crate::signed::{Key, Signed, invalid_keys, key, send};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("s3_matrix::every_operation_is_decided", matrix)]
}

/// An operation, its request (method, path, source of a copy, body), and the expected responses.
/// The users have no grant, grants to read, and all grants except administration. A response is an
/// error code or a status. For each principal, the rows are executed in order.
type Row = (&'static str, &'static str, &'static str, Option<&'static str>, &'static str, Answers);

type Answers = [&'static str; 3];

const NO: &str = "AccessDenied";
const READS: Answers = [NO, "200", "200"];
const WRITES: Answers = [NO, NO, "200"];
const DELETES: Answers = [NO, NO, "204"];
const SOURCE: Option<&str> = Some("/shared/a.txt");

const OPERATIONS: [Row; 23] = [
    ("list_buckets", "GET", "/", None, "", ["200"; 3]),
    ("create_bucket", "PUT", "/created", None, "", WRITES),
    // The response to HEAD has no body.
    ("head_bucket", "HEAD", "/shared", None, "", ["403", "200", "200"]),
    ("get_bucket_location", "GET", "/shared?location=", None, "", READS),
    ("get_bucket_versioning", "GET", "/shared?versioning=", None, "", READS),
    ("get_bucket_notification_configuration", "GET", "/shared?notification=", None, "", READS),
    ("put_bucket_notification_configuration", "PUT", "/shared?notification=", None, NONE, WRITES),
    ("list_objects", "GET", "/shared", None, "", READS),
    ("list_objects_v2", "GET", "/shared?list-type=2", None, "", READS),
    ("list_multipart_uploads", "GET", "/shared?uploads=", None, "", READS),
    ("get_object", "GET", "/shared/a.txt", None, "", READS),
    ("head_object", "HEAD", "/shared/a.txt", None, "", ["403", "200", "200"]),
    ("put_object", "PUT", "/shared/b.txt", None, "b", WRITES),
    ("copy_object", "PUT", "/shared/c.txt", SOURCE, "", WRITES),
    ("create_multipart_upload", "POST", "/shared/new?uploads=", None, "", WRITES),
    ("upload_part", "PUT", "/shared/big?partNumber=1&uploadId={big}", None, "part", WRITES),
    ("upload_part_copy", "PUT", "/shared/big?partNumber=2&uploadId={big}", SOURCE, "", WRITES),
    ("list_parts", "GET", "/shared/big?uploadId={big}", None, "", WRITES),
    ("complete_multipart_upload", "POST", "/shared/big?uploadId={big}", None, PARTS, WRITES),
    ("abort_multipart_upload", "DELETE", "/shared/other?uploadId={other}", None, "", DELETES),
    ("delete_object", "DELETE", "/shared/b.txt", None, "", DELETES),
    ("delete_objects", "POST", "/shared?delete=", None, OBJECTS, WRITES),
    ("delete_bucket", "DELETE", "/created", None, "", DELETES),
];

/// The expected responses to requests with keys that authenticate no principal, and with a
/// signature for another service.
const INVALID: [(&str, &str); 7] = [
    ("none", "AccessDenied"),
    ("unknown", "InvalidAccessKeyId"),
    ("wrong secret", "SignatureDoesNotMatch"),
    ("expired", "InvalidAccessKeyId"),
    ("revoked", "InvalidAccessKeyId"),
    // The signature is valid, so the client knows the secret. Only then may the response differ
    // from the response for an unknown key.
    ("disabled", "AccessDenied"),
    ("other service", "NotImplemented"),
];

/// The body that completes an upload with one part, with the MD5 hash of the part.
const PARTS: &str = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>\
    <ETag>\"f4c9385f1902f7334b00b9b4ecd164de\"</ETag></Part></CompleteMultipartUpload>";

/// A configuration without notifications.
const NONE: &str = "<NotificationConfiguration></NotificationConfiguration>";

const OBJECTS: &str = "<Delete><Object><Key>c.txt</Key></Object></Delete>";

/// Grants to read buckets.
const READ: [&str; 1] = ["read,list on bucket:*"];

async fn matrix() {
    let rows: Vec<&str> = OPERATIONS.iter().map(|row| row.0).collect();
    declared_operations::assert_complete(
        declared_operations::methods("s3/src/operations.rs", "S3"),
        &rows,
    );
    let users = Users::on(started().await).await;
    let url = format!("http://{}", address(&users.server));
    let owner = key(&users, json!({})).await;
    let ids = prepare(&url, &owner).await;
    for (name, grants) in [("limited", &[][..]), ("reader", &READ[..]), ("full", &ALL[..])] {
        users.user(name, grants).await;
    }
    let full = key(&users, json!({"user": "full"})).await;
    let invalid = invalid_keys(&users, &url, "s3", "/").await;
    let mut mismatches = Mismatches::default();
    for (name, expected) in INVALID {
        let found = invalid.iter().find(|one| one.0 == name);
        let (key, scope) = found.map_or((&full, "lambda"), |one| (&one.1, "s3"));
        let codes = codes(&url, key, scope, &ids).await;
        for (row, code) in OPERATIONS.iter().zip(codes) {
            let expected = match (row.1, expected) {
                ("HEAD", "NotImplemented") => "501",
                ("HEAD", _) => "403",
                _ => expected,
            };
            mismatches.check(&format!("{} with the key `{name}`", row.0), &code, expected);
        }
    }
    let other = json!([{"actions": ["read", "list"], "object": "bucket:other"}]);
    for (name, new, column) in [
        ("a user without grants", json!({"user": "limited"}), 0),
        ("a key without scopes", json!({"user": "full", "scopes": []}), 0),
        ("a key with the scope of another bucket", json!({"user": "full", "scopes": other}), 0),
        ("a reader", json!({"user": "reader"}), 1),
        ("a user with all grants", json!({"user": "full"}), 2),
    ] {
        let key = key(&users, new).await;
        for (row, code) in OPERATIONS.iter().zip(codes(&url, &key, "s3", &ids).await) {
            mismatches.check(&format!("{} as {name}", row.0), &code, row.5[column]);
        }
    }
    mismatches.assert_none();
}

/// Creates a bucket with an object and two uploads as the owner. Returns the ids of the uploads.
async fn prepare(url: &str, owner: &Key) -> [(&'static str, String); 2] {
    let request = |method, path| Signed::new("s3", owner, method, path);
    let object = Signed { body: "a".to_owned(), ..request("PUT", "/shared/a.txt") };
    let uploads = ["/shared/big?uploads=", "/shared/other?uploads="];
    let [big, other] = uploads.map(|path| request("POST", path));
    let answers = send(url, &[request("PUT", "/shared"), object, big, other]).await;
    let id = |index: usize| {
        let body = &answers[index].body;
        let id = body.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        id.unwrap_or_else(|| panic!("{answers:?}")).0.to_owned()
    };
    [("{big}", id(2)), ("{other}", id(3))]
}

/// Sends the request of each row. Returns the codes of the responses.
async fn codes(url: &str, key: &Key, scope: &str, ids: &[(&str, String)]) -> Vec<String> {
    let signed = |row: &Row| {
        let (_, method, path, copies, body, _) = *row;
        let path = ids.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        let body = body.to_owned();
        Signed { scope, copies, body, ..Signed::new("s3", key, method, path) }
    };
    let requests: Vec<Signed<'_>> = OPERATIONS.iter().map(signed).collect();
    send(url, &requests).await.iter().map(super::signed::Answer::code).collect()
}
