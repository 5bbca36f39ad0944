//! What a name that is not known was probably meant to be.

/// Longer names are not compared: none of ours is half as long.
const LONGEST: usize = 128;

/// Returns the known name that is nearest to `name`, if one is near enough.
pub(crate) fn nearest<S: AsRef<str>>(
    name: &str,
    known: impl IntoIterator<Item = S>,
) -> Option<(usize, S)> {
    let name: Vec<char> = name.chars().take(LONGEST + 1).collect();
    if name.len() > LONGEST {
        return None;
    }
    let near = known.into_iter().filter_map(|known| {
        let edits = edits(&name, known.as_ref());
        // A third of the name, so that what has nothing in common is not proposed.
        (edits <= (name.len() / 3).min(4)).then_some((edits, known))
    });
    near.min_by_key(|(edits, _)| *edits)
}

/// Returns how many characters must be inserted, removed, replaced, or swapped with their
/// neighbours.
fn edits(name: &[char], known: &str) -> usize {
    let known: Vec<char> = known.chars().collect();
    let mut rows = [vec![0; known.len() + 1], (0..=known.len()).collect(), Vec::new()];
    for (i, a) in name.iter().enumerate() {
        let [before, last, _] = &rows;
        let mut row = vec![i + 1];
        for (j, b) in known.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut fewest = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == known[j - 1] && name[i - 1] == *b {
                fewest = fewest.min(before[j - 1] + 1);
            }
            row.push(fewest);
        }
        rows[2] = row;
        rows.rotate_left(1);
    }
    rows[1][known.len()]
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_and_none_that_is_far() {
        let known = ["failure_rate", "failure_count", "open_for", "probes"];
        let near = |name| nearest(name, known).map(|(_, known)| known);
        assert_eq!(near("failure_raet"), Some("failure_rate"));
        assert_eq!(near("failures_count"), Some("failure_count"));
        assert_eq!(near("openfor"), Some("open_for"));
        assert_eq!(near("probe"), Some("probes"));
        for far in ["", "x", "timeout", "service_host", &"é".repeat(100_000)] {
            assert_eq!(near(far), None, "{far:.20}");
        }
        let counted = |name: &str, known| edits(&name.chars().collect::<Vec<_>>(), known);
        assert_eq!(counted("", "abc"), 3);
        assert_eq!(counted("abc", ""), 3);
        assert_eq!(counted("ab", "ba"), 1);
        assert_eq!(counted("kitten", "sitting"), 3);
    }
}
