//! A conflict as a small picture.

use std::fmt::Write;

use super::{
    conflict::Conflict,
    grammar::common_prefix_len,
    history::{Action, End, Observation, Operation},
};

/// Bars are at most about so wide.
const BARS_WIDTH_MAX: usize = 64;
/// So many bytes of a value are shown.
const VALUE_BYTES_MAX: usize = 80;
/// What all values have in common at their start is left out, but for so many bytes.
const COMMON_BYTES_KEPT: usize = 12;

/// One row per operation, in the order of their calls:
///
/// ```text
/// key "k": no order of the operations agrees with their times and results
///   client 1  put "new" -> done  ├──┤        [0, 1]
///   client 2  get -> nothing           ├──┤  [2, 3]
/// ```
pub(super) fn draw(conflict: &Conflict) -> String {
    let skip = bytes_skipped(&conflict.operations);
    let labels: Vec<String> = conflict.operations.iter().map(|operation| label(operation, skip)).collect();
    let label_width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let columns = Columns::of(&conflict.operations);
    let mut text = String::new();
    let write = |text: &mut String, line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("writing to a string does not fail");
    };
    write(&mut text, format_args!("key {}: {}\n", quoted(&conflict.key, 0), conflict.reason));
    for (operation, label) in conflict.operations.iter().zip(labels) {
        let (bar, times) = (columns.bar(operation), times(operation));
        write(&mut text, format_args!("  {label:label_width$}  {bar}  {times}\n"));
    }
    if conflict.set_aside > 0 {
        let count = conflict.set_aside;
        write(
            &mut text,
            format_args!(
                "  {count} more on this key do not matter: whenever they took effect, this stands\n"
            ),
        );
    }
    text
}

/// `bytes` from `skip` on in quotes, shortened in the middle if they are many.
fn quoted(bytes: &[u8], skip: usize) -> String {
    let shown = &bytes[skip.min(bytes.len())..];
    let mut text = match skip.min(bytes.len()) {
        0 => String::new(),
        skipped => format!("({skipped} bytes) "),
    };
    if shown.len() <= VALUE_BYTES_MAX {
        text += &format!("\"{}\"", shown.escape_ascii());
    } else {
        let (head, tail) = (&shown[..VALUE_BYTES_MAX * 3 / 4], &shown[shown.len() - VALUE_BYTES_MAX / 4..]);
        let between = shown.len() - head.len() - tail.len();
        text += &format!("\"{}\" ({between} bytes) \"{}\"", head.escape_ascii(), tail.escape_ascii());
    }
    text
}

/// How many bytes at the start of every value read need not be shown.
fn bytes_skipped(operations: &[Operation]) -> usize {
    let mut values = operations.iter().filter_map(|operation| match &operation.end {
        End::Returned { result: Observation::Value(Some(value)), .. } => Some(value),
        _ => None,
    });
    let (Some(first), Some(second)) = (values.next(), values.next()) else { return 0 };
    let common = values.fold(common_prefix_len(first, second), |common, value| {
        common.min(common_prefix_len(&first[..common], value))
    });
    if common > VALUE_BYTES_MAX { common - COMMON_BYTES_KEPT } else { 0 }
}

fn label(operation: &Operation, skip: usize) -> String {
    let action = match &operation.action {
        Action::Get => "get".to_string(),
        Action::Put(value) => format!("put {}", quoted(value, 0)),
        Action::Append(token) => format!("append {}", quoted(token, 0)),
        Action::Delete => "delete".to_string(),
    };
    let result = match &operation.end {
        End::Unknown => "unknown".to_string(),
        End::NotExecuted => "not executed".to_string(),
        End::Returned { result, .. } => match result {
            Observation::Done => "done".to_string(),
            Observation::Value(None) => "nothing".to_string(),
            Observation::Value(Some(value)) => quoted(value, skip),
            Observation::Length(length) => format!("length {length}"),
            Observation::Removed(true) => "removed".to_string(),
            Observation::Removed(false) => "nothing to remove".to_string(),
        },
    };
    format!("client {}  {action} -> {result}", operation.client)
}

fn times(operation: &Operation) -> String {
    match operation.end {
        End::Returned { at, .. } => format!("[{}, {at}]", operation.call),
        End::Unknown | End::NotExecuted => format!("[{}, ...", operation.call),
    }
}

/// Where the times of a conflict stand: in order, evenly spaced.
struct Columns {
    times: Vec<u64>,
    /// Characters from one time to the next.
    step: usize,
}

impl Columns {
    fn of(operations: &[Operation]) -> Columns {
        let mut times: Vec<u64> = operations.iter().map(|operation| operation.call).collect();
        times.extend(operations.iter().filter_map(|operation| match operation.end {
            End::Returned { at, .. } => Some(at),
            End::Unknown | End::NotExecuted => None,
        }));
        times.sort_unstable();
        times.dedup();
        let step = (BARS_WIDTH_MAX / times.len().max(1)).clamp(1, 4);
        Columns { times, step }
    }

    fn width(&self) -> usize {
        self.times.len() * self.step + 1
    }

    fn column(&self, time: u64) -> usize {
        self.times.partition_point(|&other| other < time) * self.step
    }

    /// `├──┤` from call to return, `├───▶` if the end is unknown, `✗` if it was not executed.
    fn bar(&self, operation: &Operation) -> String {
        let start = self.column(operation.call);
        let (end, last) = match operation.end {
            End::Returned { at, .. } => (self.column(at), '┤'),
            End::Unknown => (self.width() - 1, '▶'),
            End::NotExecuted => (start, '✗'),
        };
        let draw = |column: usize| match column {
            _ if column == end => last,
            _ if column == start => '├',
            _ if start < column && column < end => '─',
            _ => ' ',
        };
        (0..self.width()).map(draw).collect()
    }
}
