//! Which known word somebody may have meant.

/// `; did you mean `max`?`, or nothing if no word is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// The known word that takes the fewest slips of the pen to become `word`, if
/// that is no more than a third of its letters, or else one that contains the
/// other; the first of equals. Capitals and hyphens are no slips.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Shorter parts are in too many words.
    const PART_MIN: usize = 3;
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let meant = plain(word);
    let slips_max = (meant.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|known| *known != word)
        .filter_map(|known| {
            let other = plain(known);
            let count = slips(&meant, &other);
            let contained = meant.len().min(other.len()) >= PART_MIN
                && (meant.contains(&other) || other.contains(&meant));
            if count <= slips_max {
                Some((count, known))
            } else {
                contained.then_some((usize::MAX, known))
            }
        })
        .min_by_key(|(count, _)| *count)
        .map(|(_, known)| known)
}

/// Letters to add, drop, change or swap with their neighbour (optimal string
/// alignment).
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut row_before: Vec<usize> = Vec::new();
    let mut row_above: Vec<usize> = (0..=other.len()).collect();
    for row in 1..=one.len() {
        let mut cells = vec![row];
        for column in 1..=other.len() {
            let changed = usize::from(one[row - 1] != other[column - 1]);
            let mut least = (row_above[column - 1] + changed)
                .min(row_above[column] + 1)
                .min(cells[column - 1] + 1);
            let swapped = row > 1
                && column > 1
                && one[row - 1] == other[column - 2]
                && one[row - 2] == other[column - 1];
            if swapped {
                least = least.min(row_before[column - 2] + 1);
            }
            cells.push(least);
        }
        row_before = std::mem::replace(&mut row_above, cells);
    }
    row_above[other.len()]
}
