//! "Did you mean": the name nearest to one that was not found.
//!
//! The one measure for every room, so that a slip is understood alike in a table, a branch, a column, a
//! function and a key of `headwater.toml`.

/// How alike two names must be for one to be offered for the other.
const LIKENESS_MIN: f64 = 0.8;

/// How alike names are that one slip tells apart: more than those that are similar in length and letters.
const ONE_SLIP: f64 = 0.9;

/// From how many letters on one that is wrong, or two that are swapped, make no other name.
const SHORT: usize = 3;

/// The candidate nearest to `name`, its case aside, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (likeness(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate.to_owned())
}

/// From 0 to 1. Jaro and Winkler's measure sees no swapped letters in short names, which share few in
/// their places, however near they are.
fn likeness(one: &str, other: &str) -> f64 {
    let one_slip = one.chars().count() >= SHORT && strsim::osa_distance(one, other) == 1;
    strsim::jaro_winkler(one, other).max(if one_slip { ONE_SLIP } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_is_understood_and_a_stranger_is_not() {
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
