//! Objects on which a principal acts, and patterns that select them.
//!
//! An object has a kind and a name, and is written `table:sales.orders`; the lake is `lake`. In a
//! pattern, `*` stands for any text, including `.` and `/`. Names and patterns are case-sensitive.
//! The pattern of a namespace also selects the tables, views and namespaces in it, at any depth.
//! The pattern of a location also selects the files and folders below it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{is_system, parent};
use crate::permission::named;
use crate::{ObjectKind, ObjectOwner, PermissionError, RefSpec, TableName};

/// Maximum length of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_280;

/// Maximum number of `*` in a pattern, which bounds the cost of matching.
const WILDCARDS_MAX: usize = 8;

/// The wildcard of patterns.
const ANY: char = '*';

/// An object on which a principal acts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessObject {
    kind: ObjectKind,
    /// The full name; empty for the lake.
    name: String,
    /// The owner that is stored with the object, if the object was looked up and has an owner.
    owner: Option<ObjectOwner>,
    /// True if the owner was looked up where the object is stored.
    is_looked_up: bool,
    /// The owner of the namespace of a table, view or namespace that does not exist yet.
    namespace_owner: Option<ObjectOwner>,
}

impl AccessObject {
    /// Creates an object from its kind and full name.
    fn new(kind: ObjectKind, name: impl Into<String>) -> Self {
        AccessObject {
            kind,
            name: name.into(),
            owner: None,
            is_looked_up: false,
            namespace_owner: None,
        }
    }

    /// Creates the object for a table.
    pub fn table(name: &TableName) -> Self {
        Self::new(ObjectKind::Table, name.qualified())
    }

    /// Creates the object for an SQL view.
    pub fn view(name: &TableName) -> Self {
        Self::new(ObjectKind::View, name.qualified())
    }

    /// Creates the object for a namespace.
    pub fn namespace(name: &str) -> Self {
        Self::new(ObjectKind::Namespace, name)
    }

    /// Creates the object for a branch.
    pub fn branch(name: &str) -> Self {
        Self::new(ObjectKind::Branch, name)
    }

    /// Creates the object for a ref: the branch with the name of the branch or tag. A commit id
    /// becomes a name that starts with `@`, which only the pattern for all branches selects.
    pub fn reference(reference: &RefSpec) -> Self {
        match reference {
            RefSpec::Name(name) | RefSpec::At { name, .. } => Self::branch(name),
            RefSpec::Commit(hash) => Self::branch(&format!("@{hash}")),
            RefSpec::Before { of, .. } => Self::reference(of),
        }
    }

    /// Creates the object for a function.
    pub fn function(name: &str) -> Self {
        Self::new(ObjectKind::Function, name)
    }

    /// Creates the object for a project.
    pub fn project(name: &str) -> Self {
        Self::new(ObjectKind::Project, name)
    }

    /// Creates the object for a trigger.
    pub fn trigger(name: &str) -> Self {
        Self::new(ObjectKind::Trigger, name)
    }

    /// Creates the object for a Python environment.
    pub fn environment(name: &str) -> Self {
        Self::new(ObjectKind::Environment, name)
    }

    /// Creates the object for a secret.
    pub fn secret(name: &str) -> Self {
        Self::new(ObjectKind::Secret, name)
    }

    /// Creates the object for a bucket.
    pub fn bucket(name: &str) -> Self {
        Self::new(ObjectKind::Bucket, name)
    }

    /// Creates the object for a message queue.
    pub fn queue(name: &str) -> Self {
        Self::new(ObjectKind::Queue, name)
    }

    /// Creates the object for a single object in a bucket.
    pub fn object_in(bucket: &str, key: &str) -> Self {
        Self::new(ObjectKind::Bucket, format!("{bucket}/{key}"))
    }

    /// Creates the object for all objects in a bucket whose keys start with a prefix.
    pub fn prefix_in(bucket: &str, prefix: &str) -> Self {
        Self::new(ObjectKind::Bucket, format!("{bucket}/{prefix}{ANY}"))
    }

    /// Creates the object for a location of files: a path or URL.
    pub fn location(location: &str) -> Self {
        Self::new(ObjectKind::Location, location)
    }

    /// Creates the object for the jobs and the usage of a user.
    pub fn usage(user: &str) -> Self {
        Self::new(ObjectKind::Usage, user)
    }

    /// Creates the object for the lake as a whole.
    pub fn lake() -> Self {
        Self::new(ObjectKind::Lake, "")
    }

    /// Returns the kind.
    pub const fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Returns the object whose owner has access to this object: the bucket for an object in a
    /// bucket, otherwise the object itself.
    #[must_use]
    pub fn owned(&self) -> std::borrow::Cow<'_, AccessObject> {
        match self.name.split_once('/') {
            Some((bucket, _)) if self.kind == ObjectKind::Bucket => {
                std::borrow::Cow::Owned(AccessObject::bucket(bucket))
            }
            _ => std::borrow::Cow::Borrowed(self),
        }
    }

    /// Returns the object with the owner that is stored with it. Only the code that has looked up
    /// the object at the ref of the request may set the owner, because another object with the same
    /// name can have another owner.
    #[must_use]
    pub fn with_owner(self, owner: Option<&ObjectOwner>) -> Self {
        AccessObject { owner: owner.cloned(), is_looked_up: true, ..self }
    }

    /// Returns the owner that is stored with the object; see [`AccessObject::with_owner`].
    pub const fn owner(&self) -> Option<&ObjectOwner> {
        self.owner.as_ref()
    }

    /// Returns true if the owner of the object was looked up, even if the object has no owner. An
    /// SQL function and a function without a project can have the same name, so an SQL function
    /// never belongs to the owner of the other function.
    pub const fn is_looked_up(&self) -> bool {
        self.is_looked_up
    }

    /// Returns an object that does not exist yet, with the owner of its namespace. This owner may
    /// create the object.
    #[must_use]
    pub fn with_namespace_owner(self, owner: Option<ObjectOwner>) -> Self {
        AccessObject { namespace_owner: owner, ..self }
    }

    /// Returns the owner of the object's namespace; see [`AccessObject::with_namespace_owner`].
    pub const fn namespace_owner(&self) -> Option<&ObjectOwner> {
        self.namespace_owner.as_ref()
    }

    /// Returns the full name; empty for the lake.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for AccessObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_object(f, self.kind, &self.name)
    }
}

impl FromStr for AccessObject {
    type Err = PermissionError;

    /// Parses an object. Its name must not contain `*`.
    fn from_str(text: &str) -> Result<Self, PermissionError> {
        let ObjectPattern { kind, pattern } = text.parse()?;
        if pattern.contains(ANY) {
            let reason = "an object name cannot contain `*`".to_owned();
            return Err(PermissionError::Pattern { text: text.to_owned(), reason });
        }
        Ok(AccessObject::new(kind, pattern))
    }
}

fn write_object(f: &mut fmt::Formatter<'_>, kind: ObjectKind, name: &str) -> fmt::Result {
    if kind == ObjectKind::Lake {
        return f.write_str(kind.as_str());
    }
    write!(f, "{kind}:{name}")
}

/// A pattern that selects objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPattern {
    kind: ObjectKind,
    pattern: String,
}

impl ObjectPattern {
    /// Creates a pattern. If a pattern for tables or views has no namespace, the default namespace
    /// is added.
    ///
    /// Errors: the pattern matches no valid name.
    pub fn new(kind: ObjectKind, pattern: &str) -> Result<Self, PermissionError> {
        let fail = |reason: String| PermissionError::Pattern { text: pattern.to_owned(), reason };
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(fail(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        if pattern.matches(ANY).count() > WILDCARDS_MAX {
            return Err(fail(format!("the pattern has more than {WILDCARDS_MAX} wildcards")));
        }
        if (kind == ObjectKind::Lake) != pattern.is_empty() {
            let reason = if pattern.is_empty() { "it has no name" } else { "the lake has no name" };
            return Err(fail(reason.to_owned()));
        }
        let is_relation = matches!(kind, ObjectKind::Table | ObjectKind::View);
        let full = if is_relation && !pattern.contains('.') && !pattern.starts_with(ANY) {
            format!("{}.{pattern}", crate::DEFAULT_NAMESPACE)
        } else {
            pattern.to_owned()
        };
        check_name(kind, &full).map_err(fail)?;
        Ok(ObjectPattern { kind, pattern: full })
    }

    /// Returns the pattern that selects only this object, and the objects in or below it.
    pub fn of(object: &AccessObject) -> Self {
        ObjectPattern { kind: object.kind, pattern: object.name.clone() }
    }

    /// Returns the kind.
    pub const fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Returns the text of the pattern, without the kind.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Returns true if the pattern selects an object. No pattern selects a table of the system
    /// namespace.
    pub fn covers(&self, object: &AccessObject) -> bool {
        use ObjectKind::{Namespace, Table, View};
        if matches!(object.kind, Table | View | Namespace) && is_system(&object.name) {
            return false;
        }
        match (self.kind, object.kind) {
            (Namespace, Namespace) => self.covers_namespace(&object.name),
            (Namespace, Table | View) => {
                parent(&object.name).is_some_and(|namespace| self.covers_namespace(namespace))
            }
            (ObjectKind::Location, ObjectKind::Location)
            | (ObjectKind::Bucket, ObjectKind::Bucket) => self.covers_location(&object.name),
            (own, other) => own == other && matches(&self.pattern, &object.name),
        }
    }

    /// Returns true if the pattern selects a location, a bucket or key, or one of its parents.
    fn covers_location(&self, location: &str) -> bool {
        let pattern = self.pattern.trim_end_matches('/');
        let above = location.match_indices('/').map(|(at, _)| &location[..at]);
        above.chain([location]).any(|location| matches(pattern, location))
    }

    fn covers_namespace(&self, namespace: &str) -> bool {
        let mut outer = std::iter::successors(Some(namespace), |inner| parent(inner));
        outer.any(|namespace| matches(&self.pattern, namespace))
    }
}

/// Checks that a pattern can match a valid name of an object of this kind.
fn check_name(kind: ObjectKind, pattern: &str) -> Result<(), String> {
    let reason = |error: crate::NameError| error.reason.to_owned();
    // Replace each wildcard with a letter, so that the pattern can be checked like a name.
    let name = pattern.replace(ANY, "x");
    match kind {
        ObjectKind::Table | ObjectKind::View if pattern.contains('.') => {
            name.parse::<TableName>().map(drop).map_err(reason)
        }
        ObjectKind::Namespace => crate::name::check_namespace(&name).map_err(reason),
        ObjectKind::Branch => {
            crate::reference::check_ref_name(&name, "branch").map(drop).map_err(reason)
        }
        _ if pattern.chars().any(char::is_control) => {
            Err("the pattern contains a control character".to_owned())
        }
        _ => Ok(()),
    }
}

/// Returns true if a string matches a pattern, in which `*` matches any string.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once(ANY) else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts = rest.split(ANY);
    // The last part must be the end of the text. Each earlier part matches at its first occurrence.
    let last = parts.next_back().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

impl fmt::Display for ObjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_object(f, self.kind, &self.pattern)
    }
}

impl FromStr for ObjectPattern {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        let (kind, pattern) = text.split_once(':').unwrap_or((text, ""));
        let kind = named(&ObjectKind::ALL, kind)
            .ok_or_else(|| PermissionError::Kind { text: text.to_owned() })?;
        Self::new(kind, pattern)
    }
}

impl Serialize for ObjectPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, covered: &[&str], others: &[&str]) {
        let parsed: ObjectPattern = pattern.parse().expect(pattern);
        for object in covered {
            assert!(parsed.covers(&object.parse().expect(object)), "{pattern} {object}");
        }
        for object in others {
            assert!(!parsed.covers(&object.parse().expect(object)), "{pattern} {object}");
        }
    }

    #[test]
    fn a_pattern_selects_objects_of_its_kind_by_name() {
        check("table:orders", &["table:public.orders"], &["table:Orders", "view:orders"]);
        check("table:sales.*", &["table:sales.a", "table:sales.eu.a"], &["table:salesx.a"]);
        check("table:*", &["table:a", "table:s.t"], &["view:a", "namespace:a"]);
        check("branch:dev/*", &["branch:dev/a/b"], &["branch:dev", "branch:xdev/a"]);
        check("branch:*/a*b", &["branch:x/ab", "branch:x/a/b"], &["branch:x/a", "branch:x/b"]);
        check("lake", &["lake"], &["table:lake"]);
        check("secret:STRIPE_*", &["secret:STRIPE_KEY"], &["secret:stripe_key"]);
    }

    #[test]
    fn a_location_selects_the_paths_below_it() {
        let below = ["location:/in", "location:/in/a.csv", "location:/in/b/c.csv"];
        check("location:/in", &below, &["location:/inner/a.csv", "location:/", "location:/i"]);
        check("location:/in/", &below, &["location:/inner"]);
        check("location:/", &below, &["location:s3://b/a"]);
        check("location:s3://b/in", &["location:s3://b/in/a"], &["location:s3://bb/in/a"]);
        check("location:s3://b", &["location:s3://b/a/b"], &["location:s3://ba"]);
        check("location:/*/x", &["location:/a/x/y"], &["location:/a/y"]);
    }

    #[test]
    fn a_bucket_selects_the_objects_in_it_and_a_key_those_below_it() {
        let landing = ["bucket:landing", "bucket:landing/a", "bucket:landing/in/a.csv"];
        check("bucket:landing", &landing, &["bucket:landing2/a", "location:landing/a"]);
        check("bucket:landing/in", &["bucket:landing/in/a"], &["bucket:landing/inner/a"]);
        check("bucket:*/in/*", &["bucket:landing/in/a"], &["bucket:landing/out/a"]);
        let covers = |pattern: &str, prefix: &str| {
            let pattern: ObjectPattern = pattern.parse().expect(pattern);
            pattern.covers(&AccessObject::prefix_in("landing", prefix))
        };
        assert!(covers("bucket:landing", "") && covers("bucket:landing/in", "in/"));
        assert!(covers("bucket:landing/in*", "in"));
        // The pattern `in` does not select the prefix `in`, because the key `inner/a` also has this
        // prefix.
        assert!(!covers("bucket:landing/in", "in") && !covers("bucket:landing/in", ""));
    }

    #[test]
    fn a_namespace_selects_what_it_contains_but_no_system_table() {
        let inside = ["namespace:sales", "namespace:sales.eu", "table:sales.eu.a", "view:sales.v"];
        check("namespace:sales", &inside, &["namespace:sale", "table:salesx.a", "branch:sales"]);
        check("namespace:*", &["namespace:a.b", "table:t"], &["table:system.files"]);
    }

    #[test]
    fn patterns_that_select_nothing_are_refused() {
        for text in ["", "tables:a", "table", "table:", "lake:x", "branch:a b", "table:a.", "x:y"] {
            text.parse::<ObjectPattern>().expect_err(text);
        }
        format!("table:{}", "*a".repeat(9)).parse::<ObjectPattern>().expect_err("wildcards");
        format!("function:{}", "a".repeat(1_281)).parse::<ObjectPattern>().expect_err("length");
        "function:a\nb".parse::<ObjectPattern>().expect_err("a line break");
        "table:sales.*".parse::<AccessObject>().expect_err("several objects");
    }
}
