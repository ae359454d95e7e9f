//! Where two members' settings differ.

/// Lines of a difference that are shown at most; the first ones are enough to find the mistake.
const LINES_MAX: usize = 3;
/// Characters of a line that are shown at most.
const LINE_CHARS_MAX: usize = 120;

/// The first differing lines, as one line of text; `None`: the settings agree.
pub(super) fn difference(ours: &str, theirs: &str) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let (mut our_lines, mut their_lines) = (ours.lines(), theirs.lines());
    let mut found = Vec::new();
    loop {
        let (our, their) = (our_lines.next(), their_lines.next());
        if our.is_none() && their.is_none() {
            break;
        }
        if our != their {
            found.push(format!("here {}, there {}", shown(our), shown(their)));
        }
    }
    if found.is_empty() {
        return Some("their line ends differ".to_string());
    }
    let more = found.len().saturating_sub(LINES_MAX);
    found.truncate(LINES_MAX);
    let mut text = found.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more lines"));
    }
    Some(text)
}

/// A line in quotes, escaped, shortened.
fn shown(line: Option<&str>) -> String {
    match line {
        None => "nothing".to_string(),
        Some(line) => {
            let short: String = line.chars().take(LINE_CHARS_MAX).collect();
            let dots = if short.len() < line.len() { "..." } else { "" };
            format!("{short:?}{dots}")
        }
    }
}
