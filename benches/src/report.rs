//! What is printed.

/// Prints a table in Markdown: the first row is its head; columns but the first are figures.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, &width)| {
                if column == 0 { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
            });
            println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
}

/// Prints whether a figure keeps its limit.
pub fn verdict(figure: &str, is: f64, limit: f64, how: &str) {
    let holds = if is <= limit { "holds" } else { "MISSED" };
    println!("- {figure}: {is:.1}, limit {how}: {holds}");
}

/// A figure as a cell of a table.
#[must_use]
pub fn figure(value: f64) -> String {
    format!("{value:.1}")
}

/// A limit that a figure must keep, and one that it aims at.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub must: f64,
    pub aim: f64,
}

/// Prints whether a figure keeps its limits.
pub fn against(figure: &str, is: f64, Limits { must, aim }: Limits) {
    let holds = match is {
        _ if is <= aim => "aim holds",
        _ if is <= must => "must holds",
        _ => "MISSED",
    };
    println!("- {figure}: {is:.2}, must {must}, aim {aim}: {holds}");
}

/// The value below which so many percent of the values are.
///
/// # Panics
///
/// If there are no values.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
    values[rank.min(values.len() - 1)]
}
