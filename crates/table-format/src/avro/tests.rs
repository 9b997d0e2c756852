//! Tests with Avro files that are built byte by byte.

use super::*;

/// Returns the Avro encoding of a number.
fn long(number: i64) -> Vec<u8> {
    let mut bits = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while bits >= 0x80 {
        bytes.push((bits as u8 & 0x7F) | 0x80);
        bits >>= 7;
    }
    bytes.push(bits as u8);
    bytes
}

fn bytes(content: &[u8]) -> Vec<u8> {
    [long(content.len() as i64), content.to_vec()].concat()
}

/// Returns a file with one block of `count` records.
fn file(schema: &str, codec: &str, count: i64, block: &[u8]) -> Vec<u8> {
    let header = [
        MAGIC.to_vec(),
        long(2),
        bytes(b"avro.schema"),
        bytes(schema.as_bytes()),
        bytes(b"avro.codec"),
        bytes(codec.as_bytes()),
        long(0),
        vec![7; MARKER_BYTES],
    ];
    [header.concat(), long(count), bytes(block), vec![7; MARKER_BYTES]].concat()
}

/// Returns the first field of each record as Rust's debug text.
fn read(content: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    AvroFile::open(content)?.for_each::<AvroError>(|record| {
        found.push(format!("{:?}", record.values()[0]));
        Ok(())
    })?;
    Ok(found)
}

fn record(field_type: &str) -> String {
    let field = format!(r#"{{"name": "v", "type": {field_type}, "field-id": 1}}"#);
    format!(r#"{{"type": "record", "name": "r", "fields": [{field}]}}"#)
}

#[test]
fn a_fixed_uuid_has_no_length_prefix() {
    let uuid = r#"{"type": "fixed", "name": "f", "size": 16, "logicalType": "uuid"}"#;
    let content =
        file(&record(&format!(r#"["null", {uuid}]"#)), "null", 1, &[&[2][..], &[9; 16]].concat());
    assert_eq!(read(&content).unwrap(), [format!("{:?}", Value::Bytes(&[9; 16]))]);
}

#[test]
fn blocks_of_every_codec_are_decoded() {
    let block = bytes("tea".as_bytes());
    let deflated = {
        use std::io::Write as _;
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&block).unwrap();
        encoder.finish().unwrap()
    };
    let mut snappy = snap::raw::Encoder::new().compress_vec(&block).unwrap();
    snappy.extend(crc32fast::hash(&block).to_be_bytes());
    let zstandard = zstd::encode_all(&*block, 1).unwrap();
    for (codec, block) in [
        ("null", block.clone()),
        ("deflate", deflated),
        ("snappy", snappy),
        ("zstandard", zstandard),
    ] {
        let content = file(&record(r#""string""#), codec, 1, &block);
        assert_eq!(read(&content).unwrap(), [r#"Text("tea")"#], "{codec}");
    }
    let content = file(&record(r#""string""#), "xz", 1, &block);
    assert_eq!(read(&content).unwrap_err().to_string(), "codec `xz` is not supported");
}

#[test]
fn a_length_beyond_the_file_allocates_nothing() {
    let huge = long(1 << 62);
    for (field_type, value) in [
        (r#""bytes""#, huge.clone()),
        (r#""string""#, huge.clone()),
        (r#"{"type": "array", "items": "long"}"#, huge.clone()),
        (r#"{"type": "array", "items": "null"}"#, huge.clone()),
        (r#"{"type": "map", "values": "null"}"#, huge.clone()),
        (r#"{"type": "fixed", "name": "f", "size": 4611686018427387904}"#, vec![1]),
        (r#""bytes""#, long(-1)),
        (r#"["null", "long"]"#, long(2)),
        (r#""long""#, vec![0xFF; 11]),
    ] {
        let content = file(&record(field_type), "null", 1, &value);
        assert!(read(&content).is_err(), "{field_type}");
    }
    // A block that declares too many records and a truncated file are invalid. The only valid
    // truncated file is the one that ends after its header and has no block.
    assert!(read(&file(&record(r#""long""#), "null", 1 << 40, &[2])).is_err());
    assert!(read(&file(&record(r#""null""#), "null", 1 << 60, &[])).is_err());
    let whole = file(&record(r#""long""#), "null", 1, &[2]);
    for end in 0..whole.len() {
        assert!(end == whole.len() - MARKER_BYTES - 3 || read(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_recursive_schema_is_rejected() {
    let own = r#"{"type": "record", "name": "r", "fields": [{"name": "v", "type": "r"}]}"#;
    assert!(read(&file(own, "null", 1, &[0])).is_err());
    let mut deep = r#""long""#.to_owned();
    for _ in 0..200 {
        deep = format!(r#"{{"type": "array", "items": {deep}}}"#);
    }
    assert!(read(&file(&record(&deep), "null", 1, &[0])).is_err());
    // Each of these record types uses the previous type twice, so the number of values in a record
    // grows exponentially.
    let mut fields = r#"{"name": "v", "type": "long"}"#.to_owned();
    let mut last = "long".to_owned();
    for level in 0..40 {
        let both =
            format!(r#"{{"name": "a", "type": "{last}"}}, {{"name": "b", "type": "{last}"}}"#);
        let own = format!(r#"{{"type": "record", "name": "t{level}", "fields": [{both}]}}"#);
        fields = format!(r#"{fields}, {{"name": "f{level}", "type": {own}}}"#);
        last = format!("t{level}");
    }
    let wide = format!(r#"{{"type": "record", "name": "r", "fields": [{fields}]}}"#);
    assert!(read(&file(&wide, "null", 1, &[0])).is_err());
}
