//! Matches a name with the names of existing objects. An exact match is preferred to a
//! case-insensitive match.

/// The result of matching a name with the names of existing objects.
#[derive(Debug, PartialEq, Eq)]
pub enum NameMatch<'a> {
    /// One match: the exact name, or else the only name that differs just in case.
    One(&'a str),
    /// No match.
    None,
    /// Several matches that differ only in case.
    Many(Vec<&'a str>),
}

/// Returns true if two names are equal ignoring case.
pub fn equals_ignoring_case(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!(one.is_ascii() && other.is_ascii()) && one.to_lowercase() == other.to_lowercase())
}

/// Returns the existing name that `written` refers to.
pub fn find<'a>(written: &str, names: impl Iterator<Item = &'a str> + Clone) -> NameMatch<'a> {
    if let Some(exact) = names.clone().find(|name| *name == written) {
        return NameMatch::One(exact);
    }
    let mut fitting: Vec<&str> = Vec::new();
    for name in names.filter(|name| equals_ignoring_case(written, name)) {
        if !fitting.contains(&name) {
            fitting.push(name);
        }
    }
    match fitting.as_slice() {
        [] => NameMatch::None,
        [one] => NameMatch::One(one),
        _ => NameMatch::Many(fitting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_as_written_before_it_matches_without_case() {
        let names = ["PULocationID", "id", "ID"];
        assert_eq!(find("pulocationid", names.into_iter()), NameMatch::One("PULocationID"));
        assert_eq!(find("ID", names.into_iter()), NameMatch::One("ID"));
        assert_eq!(find("Id", names.into_iter()), NameMatch::Many(vec!["id", "ID"]));
        assert_eq!(find("nothing", names.into_iter()), NameMatch::None);
        assert_eq!(find("straße", ["STRASSE", "Straße"].into_iter()), NameMatch::One("Straße"));
    }
}
