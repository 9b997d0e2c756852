//! The conformance suite of the store's backends.
//!
//! Each check uses its own names, so all checks can run on one store.

use std::sync::Arc;

use bytes::Bytes;
use headwater_model::ObjectId;
use headwater_store::{
    Error, JournalAppend, KeyRange, RefChange, RefPrecondition, Store, UniqueKey, WriteBatch,
};

/// Runs every check.
pub async fn run(store: Arc<dyn Store>) {
    objects_are_stored_by_hash(&*store).await;
    objects_are_found_by_prefix(&*store).await;
    refs_change_by_compare_and_swap(&*store).await;
    refs_are_listed_by_name(&*store).await;
    a_rejected_batch_changes_nothing(&*store).await;
    unique_keys_can_be_inserted_only_once(&*store).await;
    duplicate_names_in_a_batch_are_rejected(&*store).await;
    entries_get_increasing_positions(&*store).await;
    the_newest_entry_of_a_key_is_found(&*store).await;
    scans_are_ordered_by_key(&*store).await;
    history_is_ordered_by_position(&*store).await;
    trimmed_entries_are_deleted_permanently(&*store).await;
    large_batches_are_applied_completely(&*store).await;
    any_text_and_any_bytes_are_stored_unchanged(&*store).await;
    relaxed_batches_are_visible_immediately(&*store).await;
    concurrent_writers_lose_nothing(Arc::clone(&store)).await;
    a_rejected_batch_does_not_affect_concurrent_batches(store).await;
}

pub fn text(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

pub fn set(name: &str, expected: RefPrecondition, value: &str) -> WriteBatch {
    let change = RefChange { name: name.to_owned(), expected, value: Some(text(value)) };
    WriteBatch { refs: vec![change], ..WriteBatch::default() }
}

pub fn append(journal: &str, entries: &[(&str, Option<&str>)]) -> WriteBatch {
    let entries = entries.iter().map(|(key, value)| JournalAppend {
        journal: journal.to_owned(),
        key: (*key).to_owned(),
        value: value.map(text),
    });
    WriteBatch { entries: entries.collect(), ..WriteBatch::default() }
}

async fn apply(store: &dyn Store, batch: WriteBatch) -> Vec<u64> {
    store.apply(batch).await.expect("the batch is applied").positions
}

async fn reference(store: &dyn Store, name: &str) -> Option<Bytes> {
    store.reference(name).await.expect("a ref can be read")
}

async fn scan(store: &dyn Store, journal: &str, range: KeyRange) -> Vec<(String, Bytes)> {
    let entries = store.scan(journal, &range).await.expect("a journal can be scanned");
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

fn keys(entries: &[(String, Bytes)]) -> Vec<&str> {
    entries.iter().map(|(key, _)| key.as_str()).collect()
}

async fn objects_are_stored_by_hash(store: &dyn Store) {
    let objects: Vec<Bytes> = (0..200).map(|index| text(&format!("object {index}"))).collect();
    let ids: Vec<ObjectId> = objects.iter().map(|bytes| ObjectId::of(bytes)).collect();
    let missing = ObjectId::of(b"never written");
    let batch = WriteBatch { objects: objects.clone(), ..WriteBatch::default() };
    apply(store, batch.clone()).await;
    apply(store, batch).await;
    assert_eq!(store.object(&ids[7]).await.expect("read"), Some(objects[7].clone()));
    assert_eq!(store.object(&missing).await.expect("read"), None);
    let requested: Vec<ObjectId> = ids.iter().rev().copied().chain([missing, ids[0]]).collect();
    let found = store.objects(&requested).await.expect("read");
    let expected = objects.iter().rev().cloned().map(Some).chain([None, Some(objects[0].clone())]);
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert_eq!(store.objects(&[]).await.expect("read"), Vec::new());
}

async fn objects_are_found_by_prefix(store: &dyn Store) {
    let bytes = text("found by its digits");
    let id = ObjectId::of(&bytes);
    apply(store, WriteBatch { objects: vec![bytes], ..WriteBatch::default() }).await;
    let digits = id.to_string();
    for length in [64, 9, 8] {
        let found = store.objects_with_prefix(&digits[..length], 10).await.expect("read");
        assert!(found.contains(&id), "{length} digits");
    }
    assert_eq!(store.objects_with_prefix(&"0".repeat(64), 10).await.expect("read"), Vec::new());
    assert_eq!(store.objects_with_prefix("not hexadecimal", 10).await.expect("read"), Vec::new());
    let all = store.objects_with_prefix("", usize::MAX).await.expect("read");
    assert!(all.is_sorted() && all.contains(&id));
    assert_eq!(store.objects_with_prefix("", 3).await.expect("read"), all[..3]);
}

async fn refs_change_by_compare_and_swap(store: &dyn Store) {
    let name = "swap/one";
    assert_eq!(reference(store, name).await, None);
    apply(store, set(name, RefPrecondition::Absent, "1")).await;
    assert_eq!(reference(store, name).await, Some(text("1")));
    for (expected, value) in
        [(RefPrecondition::Absent, "2"), (RefPrecondition::Value(text("0")), "2")]
    {
        let rejected = store.apply(set(name, expected, value)).await;
        assert!(matches!(rejected, Err(Error::Conflict { name: found }) if found == name));
        assert_eq!(reference(store, name).await, Some(text("1")));
    }
    apply(store, set(name, RefPrecondition::Value(text("1")), "2")).await;
    assert_eq!(reference(store, name).await, Some(text("2")));
    apply(store, set(name, RefPrecondition::Anything, "3")).await;
    assert_eq!(reference(store, name).await, Some(text("3")));
    let remove = |expected| RefChange { name: name.to_owned(), expected, value: None };
    let batch = |change| WriteBatch { refs: vec![change], ..WriteBatch::default() };
    let rejected = store.apply(batch(remove(RefPrecondition::Absent))).await;
    assert!(
        matches!(rejected, Err(Error::Conflict { .. })),
        "a batch can check only that a ref is absent"
    );
    apply(store, batch(remove(RefPrecondition::Value(text("3"))))).await;
    assert_eq!(reference(store, name).await, None);
    apply(store, batch(remove(RefPrecondition::Absent))).await;
    apply(store, batch(remove(RefPrecondition::Anything))).await;
    let rejected = store.apply(set(name, RefPrecondition::Value(text("3")), "4")).await;
    assert!(matches!(rejected, Err(Error::Conflict { .. })));
    assert_eq!(reference(store, name).await, None);
}

async fn refs_are_listed_by_name(store: &dyn Store) {
    for name in ["list/b", "list/a", "list/ab", "list0", "lisu", "list/é"] {
        apply(store, set(name, RefPrecondition::Absent, name)).await;
    }
    let list = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.references(prefix, after, limit).await.expect("refs can be listed");
        assert!(found.iter().all(|(name, value)| value == &text(name)));
        found.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(list("list/", None, 10).await, ["list/a", "list/ab", "list/b", "list/é"]);
    assert_eq!(list("list/", None, 2).await, ["list/a", "list/ab"]);
    assert_eq!(list("list/", Some("list/ab"), usize::MAX).await, ["list/b", "list/é"]);
    assert_eq!(list("list/", Some("aaa"), 1).await, ["list/a"]);
    assert_eq!(list("list/", Some("zzz"), 1).await, Vec::<String>::new());
    assert_eq!(list("list/a", None, 10).await, ["list/a", "list/ab"]);
}

async fn a_rejected_batch_changes_nothing(store: &dyn Store) {
    apply(store, set("whole/taken", RefPrecondition::Absent, "mine")).await;
    let object = text("of a rejected batch");
    let mut batch = set("whole/new", RefPrecondition::Absent, "new");
    batch.merge(set("whole/taken", RefPrecondition::Absent, "yours"));
    batch.merge(append("whole", &[("key", Some("value"))]));
    batch.objects.push(object.clone());
    batch.unique.push(UniqueKey { scope: "whole".to_owned(), key: "1".to_owned() });
    let rejected = store.apply(batch.clone()).await;
    assert!(matches!(rejected, Err(Error::Conflict { name }) if name == "whole/taken"));
    assert_eq!(reference(store, "whole/new").await, None);
    assert_eq!(reference(store, "whole/taken").await, Some(text("mine")));
    assert_eq!(store.object(&ObjectId::of(&object)).await.expect("read"), None);
    assert_eq!(store.read("whole", 0, 10).await.expect("read"), Vec::new());
    batch.refs.pop();
    assert_eq!(apply(store, batch).await.len(), 1, "its unique key was not inserted");
}

async fn unique_keys_can_be_inserted_only_once(store: &dyn Store) {
    let batch = |scope: &str, key: &str| WriteBatch {
        unique: vec![UniqueKey { scope: scope.to_owned(), key: key.to_owned() }],
        ..WriteBatch::default()
    };
    apply(store, batch("once", "a")).await;
    apply(store, batch("once", "b")).await;
    apply(store, batch("another", "a")).await;
    let mut both = batch("once", "c");
    both.merge(batch("once", "a"));
    let rejected = store.apply(both).await;
    assert!(
        matches!(rejected, Err(Error::NotUnique { scope, key }) if scope == "once" && key == "a")
    );
    apply(store, batch("once", "c")).await;
}

async fn duplicate_names_in_a_batch_are_rejected(store: &dyn Store) {
    let mut twice = set("self/one", RefPrecondition::Absent, "1");
    twice.merge(set("self/one", RefPrecondition::Anything, "2"));
    assert!(matches!(store.apply(twice).await, Err(Error::InvalidBatch { .. })));
    let unique = UniqueKey { scope: "self".to_owned(), key: "a".to_owned() };
    let twice = WriteBatch { unique: vec![unique.clone(), unique], ..WriteBatch::default() };
    assert!(matches!(store.apply(twice).await, Err(Error::NotUnique { .. })));
    assert_eq!(reference(store, "self/one").await, None);
    assert_eq!(
        apply(store, WriteBatch::default()).await,
        Vec::<u64>::new(),
        "an empty batch is valid"
    );
}

async fn entries_get_increasing_positions(store: &dyn Store) {
    let first = apply(store, append("rise", &[("a", Some("1")), ("b", Some("2"))])).await;
    let mut mixed = append("rise", &[("a", Some("3"))]);
    mixed.merge(append("rise/other", &[("a", Some("4"))]));
    mixed.merge(append("rise", &[("c", None), ("d", Some("5"))]));
    let second = apply(store, mixed).await;
    let increasing = [first[0], first[1], second[0], second[2], second[3]];
    assert!(increasing[0] > 0 && increasing.is_sorted_by(|a, b| a < b), "{increasing:?}");
    let read = async |after, limit| store.read("rise", after, limit).await.expect("read");
    let found: Vec<(u64, String)> =
        read(0, 10).await.into_iter().map(|entry| (entry.position, entry.key)).collect();
    let expected =
        [(increasing[0], "a"), (increasing[1], "b"), (increasing[2], "a"), (increasing[4], "d")];
    assert_eq!(found, expected.map(|(position, key)| (position, key.to_owned())));
    assert_eq!(read(increasing[0], 1).await[0].position, increasing[1]);
    assert_eq!(read(increasing[4], 10).await, Vec::new());
    assert_eq!(read(u64::MAX, 10).await, Vec::new());
    let other = store.read("rise/other", 0, 10).await.expect("read");
    assert_eq!((other.len(), other[0].position), (1, second[1]));
}

async fn the_newest_entry_of_a_key_is_found(store: &dyn Store) {
    let latest = async |key: &str| -> Option<Bytes> {
        store.latest("newest", key).await.expect("read").map(|entry| entry.value)
    };
    assert_eq!(latest("a").await, None);
    apply(store, append("newest", &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))])).await;
    assert_eq!((latest("a").await, latest("b").await), (Some(text("2")), Some(text("1"))));
    let positions = apply(store, append("newest", &[("b", None), ("a", Some("3"))])).await;
    assert_eq!((latest("a").await, latest("b").await), (Some(text("3")), None));
    let entry = store.latest("newest", "a").await.expect("read").expect("an entry");
    assert_eq!((entry.position, entry.key.as_str()), (positions[1], "a"));
    apply(store, append("newest", &[("b", None), ("b", Some("4")), ("a", Some("4")), ("a", None)]))
        .await;
    assert_eq!((latest("a").await, latest("b").await), (None, Some(text("4"))));
}

async fn scans_are_ordered_by_key(store: &dyn Store) {
    for key in ["2026-02", "2026-01", "2025-12", "2026-03", "2027-01"] {
        apply(store, append("scan", &[(key, Some("old")), (key, Some("new"))])).await;
    }
    apply(store, append("scan", &[("2026-02", None)])).await;
    let all = scan(store, "scan", KeyRange::all()).await;
    assert_eq!(keys(&all), ["2025-12", "2026-01", "2026-03", "2027-01"]);
    assert!(all.iter().all(|(_, value)| value == "new"));
    let check = async |range: KeyRange, expected: &[&str]| {
        let found = scan(store, "scan", range.clone()).await;
        assert_eq!(keys(&found), expected, "{range:?}");
    };
    let year = KeyRange::with_prefix("2026-");
    check(year.clone(), &["2026-01", "2026-03"]).await;
    check(year.clone().reverse(), &["2026-03", "2026-01"]).await;
    check(year.clone().reverse().limit(1), &["2026-03"]).await;
    check(year.clone().from("2026-02"), &["2026-03"]).await;
    check(year.until("2026-03"), &["2026-01"]).await;
    check(KeyRange::all().from("2026-01").until("2027-01"), &["2026-01", "2026-03"]).await;
    check(KeyRange::all().limit(0), &[]).await;
    check(KeyRange::with_prefix("2030"), &[]).await;
    assert_eq!(scan(store, "no such journal", KeyRange::all()).await, Vec::new());
}

async fn history_is_ordered_by_position(store: &dyn Store) {
    let entries = [("job", Some("1")), ("job/a", Some("2")), ("jobs", Some("3")), ("job", None)];
    let positions = apply(store, append("history", &entries)).await;
    apply(store, append("history", &[("other", Some("4")), ("job", Some("5"))])).await;
    let history = async |prefix: &str, after, limit| -> Vec<Bytes> {
        let found = store.history("history", prefix, after, limit).await.expect("read");
        assert!(found.is_sorted_by(|a, b| a.position < b.position));
        found.into_iter().map(|entry| entry.value).collect()
    };
    assert_eq!(history("job", 0, 10).await, ["1", "2", "3", "5"]);
    assert_eq!(history("job", positions[0], 2).await, ["2", "3"]);
    assert_eq!(history("job/", 0, 10).await, ["2"]);
    assert_eq!(history("", positions[2], 10).await, ["4", "5"]);
    assert_eq!(history("nothing", 0, 10).await, Vec::<Bytes>::new());
}

async fn trimmed_entries_are_deleted_permanently(store: &dyn Store) {
    let entries = [("a", Some("1")), ("a", Some("2")), ("b", Some("3")), ("c", None)];
    apply(store, append("trim", &entries)).await;
    apply(store, append("trim/other", &entries)).await;
    let last = apply(store, append("trim", &[("c", Some("4"))])).await[0];
    let trim = async |range| store.trim("trim", &range).await.expect("trimmed");
    assert_eq!(trim(KeyRange::all().until("b").limit(1).reverse()).await, 2);
    assert_eq!(keys(&scan(store, "trim", KeyRange::all()).await), ["b", "c"]);
    assert_eq!(store.latest("trim", "a").await.expect("read"), None);
    assert_eq!(trim(KeyRange::with_prefix("c")).await, 2);
    assert_eq!(trim(KeyRange::all()).await, 1);
    assert_eq!(trim(KeyRange::all()).await, 0);
    assert_eq!(store.read("trim", 0, 10).await.expect("read"), Vec::new());
    assert_eq!(store.read("trim/other", 0, 10).await.expect("read").len(), 3);
    let next = apply(store, append("trim", &[("a", Some("5"))])).await[0];
    assert!(next > last, "{next} is not after {last}");
}

async fn large_batches_are_applied_completely(store: &dyn Store) {
    let journal = |index: usize| format!("large/{}", index % 3);
    let entries = (0..1_000).map(|index| JournalAppend {
        journal: journal(index),
        key: format!("{:03}", index / 4),
        value: (index % 7 != 0).then(|| text(&index.to_string())),
    });
    let objects = (0..300).map(|index| Bytes::from(vec![index as u8; 2_000 + index]));
    let refs = (0..100).map(|index| RefChange {
        name: format!("large/{index}"),
        expected: RefPrecondition::Absent,
        value: Some(text("1")),
    });
    let batch = WriteBatch {
        entries: entries.collect(),
        objects: objects.collect(),
        refs: refs.collect(),
        ..WriteBatch::default()
    };
    let ids: Vec<ObjectId> = batch.objects.iter().map(|bytes| ObjectId::of(bytes)).collect();
    let positions = apply(store, batch.clone()).await;
    assert!(store.objects(&ids).await.expect("read").iter().all(Option::is_some));
    assert_eq!(store.references("large/", None, 1_000).await.expect("read").len(), 100);
    for third in 0..3 {
        let name = journal(third);
        let written =
            batch.entries.iter().zip(&positions).filter(|(entry, _)| entry.journal == name);
        let expected: Vec<(u64, Bytes)> = written
            .filter_map(|(entry, position)| Some((*position, entry.value.clone()?)))
            .collect();
        let found = store.read(&name, 0, usize::MAX).await.expect("read");
        let found: Vec<(u64, Bytes)> =
            found.into_iter().map(|entry| (entry.position, entry.value)).collect();
        assert_eq!(found, expected);
    }
}

async fn any_text_and_any_bytes_are_stored_unchanged(store: &dyn Store) {
    let all: Bytes = (0..=255_u8).collect::<Vec<u8>>().into();
    for (index, value) in [Bytes::new(), all, text("it's; -- ?1 $2")].into_iter().enumerate() {
        for key in ["", "'; DROP TABLE refs; --", "é\u{10FFFF}", "a\0b", "?"] {
            let name = format!("any/{index}/{key}");
            let change = RefChange {
                name: name.clone(),
                expected: RefPrecondition::Absent,
                value: Some(value.clone()),
            };
            let append = JournalAppend {
                journal: "any '".to_owned(),
                key: name.clone(),
                value: Some(value.clone()),
            };
            let batch =
                WriteBatch { refs: vec![change], entries: vec![append], ..WriteBatch::default() };
            apply(store, batch).await;
            assert_eq!(reference(store, &name).await, Some(value.clone()), "{name:?}");
            let entry = store.latest("any '", &name).await.expect("read").expect("an entry");
            assert_eq!((entry.key, entry.value), (name, value.clone()));
        }
    }
}

async fn relaxed_batches_are_visible_immediately(store: &dyn Store) {
    for value in ["1", "2", "3"] {
        apply(
            store,
            WriteBatch { relaxed: true, ..set("relaxed", RefPrecondition::Anything, value) },
        )
        .await;
        assert_eq!(reference(store, "relaxed").await, Some(text(value)));
        let next = format!("{value}!");
        apply(store, set("relaxed", RefPrecondition::Value(text(value)), &next)).await;
        assert_eq!(reference(store, "relaxed").await, Some(text(&next)));
    }
}

/// Increments a counter by compare-and-swap, and appends the writer's name to a journal.
pub async fn count(store: &dyn Store, counter: &str, writer: &str) -> u64 {
    loop {
        let found = reference(store, counter).await;
        let (expected, value) = match found {
            None => (RefPrecondition::Absent, 0),
            Some(bytes) => {
                let number =
                    std::str::from_utf8(&bytes).expect("digits").parse().expect("a number");
                (RefPrecondition::Value(bytes), number)
            }
        };
        let next = value + 1;
        let mut batch = set(counter, expected, &next.to_string());
        batch.merge(append(counter, &[(&format!("{next:06}"), Some(writer))]));
        batch.objects.push(text(&format!("{counter} {next}")));
        match store.apply(batch).await {
            Ok(_) => return next,
            Err(Error::Conflict { name }) => assert_eq!(name, counter),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn concurrent_writers_lose_nothing(store: Arc<dyn Store>) {
    let writers = (0..8).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..25 {
                count(&*store, "at once", &writer.to_string()).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("the writer ends well");
    }
    assert_eq!(reference(&*store, "at once").await, Some(text("200")));
    let entries = scan(&*store, "at once", KeyRange::all()).await;
    assert_eq!(entries.len(), 200);
    for writer in 0..8 {
        let written = entries.iter().filter(|(_, name)| name == &text(&writer.to_string()));
        assert_eq!(written.count(), 25);
    }
}

async fn a_rejected_batch_does_not_affect_concurrent_batches(store: Arc<dyn Store>) {
    apply(&*store, set("neighbour/taken", RefPrecondition::Absent, "1")).await;
    let writers = (0..60).map(|index| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut batch = set(&format!("neighbour/{index}"), RefPrecondition::Absent, "1");
            batch.merge(append("neighbour", &[(&format!("{index:02}"), Some("1"))]));
            if index % 3 == 0 {
                batch.merge(set("neighbour/taken", RefPrecondition::Absent, "2"));
            }
            batch.relaxed = index % 2 == 0;
            (index, store.apply(batch).await)
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        let (index, result) = writer.await.expect("the writer ends well");
        let rejected = matches!(result, Err(Error::Conflict { name }) if name == "neighbour/taken");
        assert_eq!(rejected, index % 3 == 0);
        let exists = reference(&*store, &format!("neighbour/{index}")).await.is_some();
        assert_eq!(exists, index % 3 != 0);
    }
    assert_eq!(scan(&*store, "neighbour", KeyRange::all()).await.len(), 40);
}
