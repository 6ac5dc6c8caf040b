//! Tables for people: what Go's `tabwriter` makes with cells of at least 8, tabs of 8 and padding 1.

const TAB: usize = 8;

/// A header and rows as lines, columns aligned by tabs. The header is put in capitals; a row may be shorter than it.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|title| title.to_uppercase()).collect();
    let lines: Vec<Vec<String>> = [header].into_iter().chain(rows.iter().map(|row| one_line(row))).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let tabs: Vec<usize> = (0..columns)
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell| width(cell) / TAB + 1).max().unwrap_or(1)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < line.len() {
                text.extend(std::iter::repeat_n('\t', tabs[column] - width(cell) / TAB));
            }
        }
        text.push('\n');
    }
    text
}

/// Cells without what would break their line.
fn one_line(row: &[String]) -> Vec<String> {
    row.iter().map(|cell| cell.replace(['\t', '\n', '\r'], " ")).collect()
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}
