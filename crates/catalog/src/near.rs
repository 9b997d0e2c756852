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
        .map(|candidate| (strsim::jaro_winkler(&wanted, &candidate.to_lowercase()), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then(|| best.1.to_owned())
}
