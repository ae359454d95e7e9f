//! Tables and plots, and where they are written.

mod place;
mod plot;

pub use place::Place;
pub use plot::{Panel, Series, plot};

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The root of Pontoon's repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies two folders below").to_path_buf()
}

/// A line on stdout. Nobody listening any more is no reason to stop.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A Markdown table.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line =
        |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut text = line(&mut header.iter().copied());
    text.push_str(&line(&mut header.iter().map(|_| "---")));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Writes a file below bench/.
pub fn write(name: &str, text: &str) -> Result<()> {
    let path = root().join("bench").join(name);
    fs::create_dir_all(path.parent().expect("it lies in a folder"))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(format_args!("wrote {}", path.display()));
    Ok(())
}

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->` in a file below bench/.
pub fn replace_block(file: &str, name: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(root().join("bench").join(file))?;
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = old.split_once(&start).with_context(|| format!("{file} lacks {start}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{file} lacks {end}"))?;
    write(file, &format!("{before}{start}{text}{end}{after}"))
}

/// A whole number with commas; nothing if there is none.
pub fn count(number: Option<f64>) -> String {
    let Some(number) = number else { return String::new() };
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds; nothing if there are none.
pub fn ms(number: Option<f64>) -> String {
    number.map_or(String::new(), |number| format!("{number:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        let text = |number| count(Some(number));
        assert_eq!([text(0.4), text(999.6), text(1234567.0)], ["0", "1,000", "1,234,567"]);
        assert_eq!(count(None), "");
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let rows = [vec!["x".to_string(), "1".to_string()]];
        assert_eq!(table(&["a", "b"], &rows), "| a | b |\n| --- | --- |\n| x | 1 |\n");
    }
}
