//! `pontoon status`: what each server says of itself.

use std::{thread, time::Duration};

use serde_json::json;

use crate::{
    args::StatusArgs,
    failure::{FAILED, Failure},
    info::{self, Info, InfoError, Probe},
    output,
};

/// A server that has not answered by then counts as unreachable.
const TIMEOUT: Duration = Duration::from_secs(1);

const HEADER: [&str; 12] = [
    "SERVER",
    "NODE",
    "ROLE",
    "TERM",
    "LEADER",
    "COMMIT",
    "APPLIED",
    "LAST",
    "TRIMMED",
    "LOG BYTES",
    "SESSIONS",
    "WAITING",
];

/// One listed server and what it said.
type Row = (String, Result<Info, InfoError>);

/// Asks all servers at once and prints what they say.
pub fn run(args: StatusArgs) -> Result<(), Failure> {
    let rows = ask(args.client.servers, args.client.password);
    let text = if args.json { json_lines(&rows) } else { table(&rows) };
    output::deliver(&[text.as_bytes()])?;
    if is_well(&rows) { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

fn ask(servers: Vec<String>, password: Option<String>) -> Vec<Row> {
    let asked: Vec<_> = servers
        .into_iter()
        .map(|server| {
            let mut probe = Probe::new(server.clone(), password.clone());
            (server, thread::spawn(move || probe.info(TIMEOUT)))
        })
        .collect();
    asked
        .into_iter()
        .map(|(server, answer)| (server, answer.join().expect("a probe does not panic")))
        .collect()
}

/// Whether a majority of the listed servers answers and one of them leads.
fn is_well(rows: &[Row]) -> bool {
    let infos: Vec<&Info> = rows.iter().filter_map(|(_, info)| info.as_ref().ok()).collect();
    infos.len() > rows.len() / 2 && info::leader(infos).is_some()
}

fn table(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let mut widths = HEADER.map(str::len);
    // What is said of an unreachable server is as long as it is, and takes no part in the columns.
    for row in cells.iter().filter(|row| row.len() == HEADER.len()) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    widths[0] = cells.iter().map(|row| row[0].len()).fold(widths[0], usize::max);
    let mut text = line(&widths, &HEADER.map(str::to_string));
    for row in &cells {
        text.push_str(&line(&widths, row));
    }
    text
}

fn cells((server, info): &Row) -> Vec<String> {
    match info {
        Err(error) => vec![server.clone(), format!("unreachable: {error}")],
        Ok(info) => vec![
            server.clone(),
            info.node_id.to_string(),
            info.role.clone(),
            info.term.to_string(),
            info.leader.map_or("none".to_string(), |leader| leader.to_string()),
            info.commit_index.to_string(),
            info.applied_index.to_string(),
            info.last_index.to_string(),
            info.trimmed_index.to_string(),
            info.log_bytes.to_string(),
            info.sessions.to_string(),
            info.waiting.to_string(),
        ],
    }
}

/// Text to the left, numbers to the right.
fn line(widths: &[usize], cells: &[String]) -> String {
    const TEXT_COLUMNS: [usize; 2] = [0, 2];
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        let is_text = TEXT_COLUMNS.contains(&column) || cells.len() < HEADER.len();
        if is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
}

fn json_lines(rows: &[Row]) -> String {
    let line = |(server, info): &Row| match info {
        Ok(info) => format!("{}\n", json!({ "server": server, "reachable": true, "raft": info })),
        Err(error) => {
            format!("{}\n", json!({ "server": server, "reachable": false, "error": error.to_string() }))
        }
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::tests::info;

    fn rows() -> Vec<Row> {
        let down = || Err(InfoError::Unreachable("connection refused".to_string()));
        vec![
            ("127.0.0.1:7001".to_string(), Ok(info(1, "leader", 3))),
            ("127.0.0.1:7002".to_string(), Ok(Info { leader: Some(1), ..info(2, "follower", 3) })),
            ("127.0.0.1:7003".to_string(), down()),
        ]
    }

    #[test]
    fn a_table_has_a_line_per_server_in_aligned_columns() {
        let expected = "\
SERVER          NODE  ROLE      TERM  LEADER  COMMIT  APPLIED  LAST  TRIMMED  LOG BYTES  SESSIONS  WAITING
127.0.0.1:7001     1  leader       3    none       9        8    10        3       4096         2        0
127.0.0.1:7002     2  follower     3       1       9        8    10        3       4096         2        0
127.0.0.1:7003  unreachable: connection refused
";
        assert_eq!(table(&rows()), expected);
    }

    #[test]
    fn json_says_the_same_in_one_object_a_line() {
        let text = json_lines(&rows());
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[1]["raft"]["leader"], 1);
        assert_eq!(lines[2]["reachable"], false);
        assert_eq!(lines[2]["error"], "connection refused");
    }

    #[test]
    fn a_cluster_is_well_with_a_leader_and_a_majority() {
        assert!(is_well(&rows()));
        assert!(!is_well(&rows()[1..]), "nobody leads");
        let mut minority = rows();
        minority[1].1 = Err(InfoError::Unreachable("no answer in time".to_string()));
        assert!(!is_well(&minority), "one of three");
    }
}
