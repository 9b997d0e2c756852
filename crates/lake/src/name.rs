//! Finds the name that was most likely meant.

/// The likeness below which a name is no suggestion.
const LIKENESS_MIN: f64 = 0.75;

/// From how many letters on one that is wrong, or two that are swapped, make no other name.
const SHORT: usize = 3;

/// The candidate most like `name`, where one is like it.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    let likeness = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // Short names share few letters in their places, however near they are.
        let one_slip = name.len() >= SHORT && strsim::damerau_levenshtein(&name, &candidate) == 1;
        let likeness = strsim::jaro_winkler(&name, &candidate);
        if one_slip { likeness.max(LIKENESS_MIN) } else { likeness }
    };
    candidates
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood_and_a_stranger_is_not() {
        let names = ["flights", "airports", "weather"];
        let near = |name| nearest(name, names.into_iter());
        assert_eq!(near("fligths"), Some("flights"));
        assert_eq!(near("Airport"), Some("airports"));
        assert_eq!(near("customers"), None);
        assert_eq!(nearest("jkf", ["Jfk", "t"].into_iter()), Some("Jfk"));
    }
}
