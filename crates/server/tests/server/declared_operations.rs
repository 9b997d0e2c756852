//! Names of operations, read from the source that declares them. A matrix test fails if its table
//! lacks one of these operations.

use std::path::Path;

use syn::{File, ImplItem, Item};

/// Returns the variants of an enum. `file` is a path below `crates`.
pub fn variants(file: &str, name: &str) -> Vec<String> {
    let found = parsed(file).items.into_iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == name => Some(item.variants),
        _ => None,
    });
    let found = found.unwrap_or_else(|| panic!("`{file}` has no enum `{name}`"));
    found.iter().map(|variant| variant.ident.to_string()).collect()
}

/// Returns the methods of the implementation of a trait. `file` is a path below `crates`.
pub fn methods(file: &str, of: &str) -> Vec<String> {
    let found = parsed(file).items.into_iter().find_map(|item| match item {
        Item::Impl(item) if item.trait_.as_ref().is_some_and(|it| it.1.is_ident(of)) => {
            Some(item.items)
        }
        _ => None,
    });
    let found = found.unwrap_or_else(|| panic!("`{file}` does not implement `{of}`"));
    let name = |item: &ImplItem| match item {
        ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
        _ => None,
    };
    found.iter().filter_map(name).collect()
}

/// Fails if the rows of a matrix are not exactly the declared operations.
pub fn assert_complete(mut declared: Vec<String>, rows: &[&str]) {
    let mut rows: Vec<String> = rows.iter().map(|&row| row.to_owned()).collect();
    declared.sort();
    rows.sort();
    assert_eq!(declared, rows, "each operation has one row");
}

/// The responses that differ from the expected responses of a table.
#[derive(Default)]
pub struct Mismatches(Vec<String>);

impl Mismatches {
    /// Compares a response with the expected response. `of` names the row and the principal.
    pub fn check(&mut self, of: &str, found: &str, expected: &str) {
        if found != expected {
            self.0.push(format!("{of}: `{found}` instead of `{expected}`"));
        }
    }

    /// Fails if any response differed.
    pub fn assert_none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Parses a source file. `file` is a path below `crates`.
pub fn parsed(file: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = std::fs::read_to_string(&path).expect("a source file");
    syn::parse_file(&text).expect("Rust")
}
