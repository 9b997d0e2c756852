//! The name that was probably meant.

/// How alike two names must be for one to be offered for the other.
const LIKENESS_MIN: f64 = 0.8;

/// The candidate most like `name`, where one is like enough.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let wanted = name.to_lowercase();
    let scored = candidates
        .into_iter()
        .map(|candidate| (likeness(&wanted, &candidate.to_lowercase()), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then(|| best.1.to_owned())
}

/// From 0 to 1. Jaro and Winkler's measure sees no swapped letters in short names, which a single edit
/// tells.
fn likeness(a: &str, b: &str) -> f64 {
    let one_edit = a.len() > 2 && strsim::osa_distance(a, b) == 1;
    strsim::jaro_winkler(a, b).max(if one_edit { 0.9 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_seen_and_another_word_is_not() {
        let check = |name, near: Option<&str>| {
            let names = ["main", "raw", "feature/prices", "dev"];
            assert_eq!(nearest(name, names).as_deref(), near, "{name}");
        };
        check("mian", Some("main"));
        check("rwa", Some("raw"));
        check("MAIN", Some("main"));
        check("feature/price", Some("feature/prices"));
        check("de", Some("dev"));
        check("flights", None);
        check("", None);
    }
}
