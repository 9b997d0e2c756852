//! Operations on buckets and objects.

use headwater_service::objects::{
    CompletedPart, CopyRequest, ListRequest, NewObject, NewUpload, ObjectHeaders,
    ObjectPrecondition, UploadTarget,
};

use crate::lake::{content, shared};
use crate::matrix::{Call, LISTS, Row, done, every, listed, reads, writes};

const ALWAYS: ObjectPrecondition = ObjectPrecondition::Always;

pub const ROWS: &[Row] = &[
    ("Buckets::list", LISTS, |c| listed(async move { c.s3().buckets().list(&c.by).await })),
    ("Buckets::create", writes("ok"), |c| {
        done(async move { c.s3().buckets().create(&c.by, "made").await })
    }),
    ("Buckets::delete", writes("ok"), |c| {
        done(async move { c.s3().buckets().delete(&c.by, "made").await })
    }),
    ("Buckets::check", reads("ok"), |c| {
        done(async move { c.s3().buckets().check(&c.by, "shared").await })
    }),
    ("Buckets::notifications", reads("ok"), |c| {
        done(async move { c.s3().buckets().notifications(&c.by, "shared").await })
    }),
    ("Buckets::set_notifications", writes("ok"), |c| {
        done(async move { c.s3().buckets().set_notifications(&c.by, "shared", Vec::new()).await })
    }),
    // Users without rights get the same answer for a bucket that does not exist.
    ("Buckets::exists", every("ok"), |c| {
        done(async move { c.s3().buckets().exists(&c.by, "shared").await })
    }),
    ("Buckets::exists (missing)", ["ok", "ok", MISSING, MISSING, MISSING], |c| {
        done(async move { c.s3().buckets().exists(&c.by, "none").await })
    }),
    ("Objects::put", writes("ok"), |c| {
        let (path, headers, content) = (shared("b.txt"), ObjectHeaders::default(), content("b"));
        let new = NewObject { path, headers, condition: ALWAYS, content };
        done(async move { c.s3().objects().put(&c.by, new).await })
    }),
    ("Objects::head", reads("ok"), |c| {
        done(async move { c.s3().objects().head(&c.by, &shared("a.txt")).await })
    }),
    ("Objects::open", reads("ok"), |c| {
        done(async move {
            c.s3().objects().open(&c.by, &shared("a.txt"), |info| Ok(0..info.size)).await
        })
    }),
    ("Objects::copy", writes("ok"), |c| {
        let (from, to) = (shared("a.txt"), shared("c.txt"));
        let copy = CopyRequest { from, to, headers: None, condition: ALWAYS };
        done(async move { c.s3().objects().copy(&c.by, copy).await })
    }),
    ("Objects::delete", writes("ok"), |c| {
        done(async move { c.s3().objects().delete(&c.by, &shared("c.txt"), &ALWAYS).await })
    }),
    ("Objects::list", reads("ok"), |c| {
        let bucket = "shared".to_owned();
        let list = ListRequest { bucket, limit: 9, ..ListRequest::default() };
        done(async move { c.s3().objects().list(&c.by, &list).await })
    }),
    ("Objects::create_upload", writes("ok"), |c| {
        let new = NewUpload { path: shared("made"), headers: ObjectHeaders::default() };
        done(async move { c.s3().objects().create_upload(&c.by, new).await })
    }),
    ("Objects::put_part", writes("ok"), |c| {
        let target = upload(c);
        done(async move { c.s3().objects().put_part(&c.by, &target, 1, content("a")).await })
    }),
    ("Objects::parts", writes("items"), |c| {
        let target = upload(c);
        listed(async move { c.s3().objects().parts(&c.by, &target, 0, 9).await })
    }),
    ("Objects::complete", writes("invalid_argument"), |c| {
        let parts = [CompletedPart { number: 2, etag: "none".to_owned() }];
        let target = upload(c);
        done(async move { c.s3().objects().complete(&c.by, &target, &parts, &ALWAYS).await })
    }),
    ("Objects::abort", writes("object_not_found"), |c| {
        let target = UploadTarget { id: "none".to_owned(), ..upload(c) };
        done(async move { c.s3().objects().abort(&c.by, &target).await })
    }),
    ("Objects::uploads", reads("items"), |c| {
        listed(async move { c.s3().objects().uploads(&c.by, "shared", "").await })
    }),
];

const MISSING: &str = "bucket_not_found";

/// Returns the upload that the owner started.
fn upload(call: &Call) -> UploadTarget {
    UploadTarget { path: shared("big"), id: call.known.upload.clone() }
}
