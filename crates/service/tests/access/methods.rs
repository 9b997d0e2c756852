//! The public methods of the service, read from its source. Each method has a row in the
//! matrix, or a reason why it takes no principal.

use std::collections::BTreeSet;
use std::path::PathBuf;

use libtest_mimic::Trial;
use syn::{
    File, FnArg, GenericArgument, ImplItem, Item, Path, PathArguments, ReturnType, Signature, Type,
    TypeParamBound, UseTree, Visibility,
};

use crate::declared_operations::{assert_complete, parsed};
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

/// Returns the public methods that a protocol can call, such as `Branches::create`, and the
/// exported functions. With `takes_principal`, returns only the functions with a `Principal`
/// parameter, otherwise the other functions. A protocol can call the methods of a type if the crate
/// exports the type, or if another such method returns it.
fn methods(takes_principal: bool) -> Vec<String> {
    let files: Vec<File> = sources("service").iter().map(|file| parsed(file)).collect();
    let items: Vec<&Item> = files.iter().flat_map(|file| &file.items).collect();
    let all: Vec<(String, &Signature)> = items.iter().flat_map(|item| callable(item)).collect();
    let mut reachable: BTreeSet<String> = items.iter().flat_map(|item| exported(item)).collect();
    loop {
        let found = all.iter().filter(|(of, _)| reachable.contains(of));
        let names: Vec<String> = found.flat_map(|(_, it)| returned(it)).collect();
        let count = reachable.len();
        reachable.extend(names);
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
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
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
        Item::Use(used) if is_public(&used.vis) => used_names(&used.tree),
        _ => Vec::new(),
    }
}

fn used_names(tree: &UseTree) -> Vec<String> {
    match tree {
        UseTree::Path(path) => used_names(&path.tree),
        UseTree::Name(name) => vec![name.ident.to_string()],
        UseTree::Rename(names) => vec![names.ident.to_string(), names.rename.to_string()],
        UseTree::Group(group) => group.items.iter().flat_map(used_names).collect(),
        UseTree::Glob(_) => panic!("the service exports names one by one"),
    }
}

/// Returns the name of the type of an `impl` block, without its arguments.
pub fn self_type(of: &Type) -> String {
    let Type::Path(path) = of else { panic!("an `impl` block of a type with a name") };
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
    signature.inputs.iter().any(|input| match input {
        FnArg::Typed(input) => names(&input.ty).iter().any(|name| name == "Principal"),
        FnArg::Receiver(_) => false,
    })
}

fn returned(signature: &Signature) -> Vec<String> {
    match &signature.output {
        ReturnType::Type(_, of) => names(of),
        ReturnType::Default => Vec::new(),
    }
}

/// Returns all names in a type.
fn names(of: &Type) -> Vec<String> {
    match of {
        Type::Path(path) => path_names(&path.path),
        Type::Reference(reference) => names(&reference.elem),
        Type::Slice(slice) => names(&slice.elem),
        Type::Array(array) => names(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().flat_map(names).collect(),
        Type::ImplTrait(implemented) => implemented.bounds.iter().flat_map(bound_names).collect(),
        Type::TraitObject(object) => object.bounds.iter().flat_map(bound_names).collect(),
        _ => panic!("a kind of type that the test does not know"),
    }
}

fn bound_names(bound: &TypeParamBound) -> Vec<String> {
    match bound {
        TypeParamBound::Trait(bound) => path_names(&bound.path),
        _ => Vec::new(),
    }
}

fn path_names(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for segment in &path.segments {
        found.push(segment.ident.to_string());
        match &segment.arguments {
            PathArguments::None => {}
            PathArguments::AngleBracketed(arguments) => {
                for argument in &arguments.args {
                    match argument {
                        GenericArgument::Type(of) => found.extend(names(of)),
                        GenericArgument::AssocType(of) => found.extend(names(&of.ty)),
                        _ => {}
                    }
                }
            }
            PathArguments::Parenthesized(call) => {
                found.extend(call.inputs.iter().flat_map(names));
                if let ReturnType::Type(_, of) = &call.output {
                    found.extend(names(of));
                }
            }
        }
    }
    found
}
