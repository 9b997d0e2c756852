//! The public methods of the service, read from its source. Each has a row in the matrix, or a
//! reason why it takes no principal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use quote::ToTokens;
use syn::{File, ImplItem, Item, Signature, Type, Visibility};

use crate::declared::{assert_complete, parsed};
use crate::trial;
use crate::unchecked::UNCHECKED;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("methods::every_method_with_a_principal_has_a_row", async || {
            assert_complete(methods(true), &crate::rows::methods());
        }),
        trial("methods::every_method_without_a_principal_has_a_reason", async || {
            let listed: Vec<&str> = UNCHECKED.iter().map(|(name, _)| *name).collect();
            assert_complete(methods(false), &listed);
        }),
    ]
}

/// Returns the public methods that a protocol can call, such as `Branches::create`, and the exported
/// functions, such as `read_files`: those that take a principal, or all others. A protocol has the
/// values of types that the crate exports, or that one of these methods returns.
fn methods(takes_principal: bool) -> Vec<String> {
    let files: Vec<File> = sources("service").iter().map(|file| parsed(file)).collect();
    let items: Vec<&Item> = files.iter().flat_map(|file| &file.items).collect();
    let all: Vec<(String, &Signature)> = items.iter().flat_map(|item| callable(item)).collect();
    let mut reachable: BTreeSet<String> = items.iter().flat_map(|item| exported(item)).collect();
    loop {
        let found = all.iter().filter(|(of, _)| reachable.contains(of));
        let returned: Vec<String> = found.flat_map(|(_, it)| words(&it.output)).collect();
        let count = reachable.len();
        reachable.extend(returned);
        if reachable.len() == count {
            break;
        }
    }
    let found = all.iter().filter(|(of, _)| reachable.contains(of));
    let found = found.filter(|(_, signature)| has_principal(signature) == takes_principal);
    let name = |(of, signature): &(String, &Signature)| match signature.ident.to_string() {
        name if name == *of => name,
        name => format!("{of}::{name}"),
    };
    found.map(name).collect()
}

/// Returns the paths of a crate's source files below `crates`.
pub fn sources(krate: &str) -> Vec<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![PathBuf::from(krate).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(crates.join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path.to_str().expect("text").to_owned());
            }
        }
    }
    files.sort();
    files
}

/// Returns the public methods of an `impl` block with the name of its type, or a public function
/// with its name.
fn callable(item: &Item) -> Vec<(String, &Signature)> {
    match item {
        Item::Impl(block) if block.trait_.is_none() => {
            let of = self_type(&block.self_ty);
            block.items.iter().filter_map(public_method).map(|it| (of.clone(), it)).collect()
        }
        Item::Fn(function) if is_public(&function.vis) => {
            vec![(function.sig.ident.to_string(), &function.sig)]
        }
        _ => Vec::new(),
    }
}

/// Returns the names that a `pub use` exports.
fn exported(item: &Item) -> Vec<String> {
    match item {
        Item::Use(used) if is_public(&used.vis) => words(&used.tree),
        _ => Vec::new(),
    }
}

/// Returns the name of the type of an `impl` block, without its arguments.
fn self_type(of: &Type) -> String {
    let Type::Path(path) = of else { panic!("`impl {}`", of.to_token_stream()) };
    path.path.segments.last().expect("a name").ident.to_string()
}

fn public_method(item: &ImplItem) -> Option<&Signature> {
    match item {
        ImplItem::Fn(method) if is_public(&method.vis) => Some(&method.sig),
        _ => None,
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Returns true if a parameter contains a `Principal`.
fn has_principal(signature: &Signature) -> bool {
    words(&signature.inputs).iter().any(|word| word == "Principal")
}

/// Returns the names and keywords of a part of the source, and its punctuation.
pub fn words(part: &impl ToTokens) -> Vec<String> {
    let mut text = part.to_token_stream().to_string();
    for bracket in ['(', ')', '[', ']', '{', '}', '<', '>', ',', ';'] {
        text = text.replace(bracket, &format!(" {bracket} "));
    }
    text.split_whitespace().map(str::to_owned).collect()
}
