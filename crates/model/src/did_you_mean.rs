//! Suggestions ("did you mean"): the existing name that is most similar to a name that was not
//! found. One similarity measure is used for tables, branches, columns, functions and the keys of
//! `headwater.toml`.

/// Minimum similarity of a suggestion.
const SIMILARITY_MIN: f64 = 0.8;

/// Similarity of names that differ by one typo. It is higher than the similarity of names that have
/// similar letters and lengths but differ in more places.
const ONE_SLIP: f64 = 0.9;

/// Minimum length of a name in which one wrong letter, or two swapped letters, counts as a
/// typo.
const SHORT: usize = 3;

/// Returns the candidate most similar to `name`, ignoring case, if it is similar enough.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (similarity(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Returns a hint that suggests a similar name, or the hint `otherwise` if there is none.
pub fn did_you_mean(near: Option<&str>, otherwise: &str) -> String {
    near.map_or_else(|| otherwise.to_owned(), |near| format!("Did you mean `{near}`?"))
}

/// Returns the similarity of two names, from 0 to 1. The Jaro-Winkler measure does not detect
/// swapped letters in short names, so short names are also compared by edit distance.
fn similarity(one: &str, other: &str) -> f64 {
    let one_slip = one.chars().count() >= SHORT && strsim::osa_distance(one, other) == 1;
    strsim::jaro_winkler(one, other).max(if one_slip { ONE_SLIP } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn similar_names_are_suggested_and_others_are_not() {
        let check = |name: &str, names: &[&str], near: Option<&str>| {
            assert_eq!(nearest(name, names.iter().copied()).as_deref(), near, "{name}");
        };
        let branches = ["main", "raw", "feature/prices", "dev"];
        check("mian", &branches, Some("main"));
        check("rwa", &branches, Some("raw"));
        check("MAIN", &branches, Some("main"));
        check("feature/price", &branches, Some("feature/prices"));
        check("de", &branches, Some("dev"));
        check("flights", &branches, None);
        check("", &branches, None);
        let tables = ["flights", "airports", "weather"];
        check("fligths", &tables, Some("flights"));
        check("Airport", &tables, Some("airports"));
        check("customers", &tables, None);
        check("quarks", &tables, None);
        check("jkf", &["Jfk", "t"], Some("Jfk"));
        check("x", &["y", "id"], None);
    }
}
