//! A flipped bit in the files of a server that is down: it refuses to start in one sentence that names the file, or stops when it
//! notices; the others go on; and with the bytes as they were it comes back. As `docs/operations.md` says.

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pontoon_clerk::Clerk;
use pontoon_wire::resp::Value;
use support::{Cluster, Connection, bulk, within};

/// A cluster with tables on the disks, and a follower of it that is down.
async fn cluster_with_a_follower_down() -> (Cluster, Clerk, usize) {
    let mut cluster = Cluster::start(3, &["--snapshot-log-bytes", "65536"]);
    let clerk = tokens::clerk(cluster.addresses());
    for n in 0..300 {
        clerk.put(key(n), value(n)).await.unwrap();
    }
    let down = tokio::task::block_in_place(|| {
        cluster.assert_states_equal();
        let has_tables = |id: usize| (!tables(&data(&cluster, id)).is_empty()).then_some(());
        let down = cluster.await_leader() % 3 + 1;
        within(Duration::from_secs(20), || has_tables(down)).expect("the state is flushed");
        down
    });
    // To compare states is to have all flushed; these are in the follower's log alone.
    for n in 300..310 {
        clerk.put(key(n), value(n)).await.unwrap();
    }
    tokio::task::block_in_place(|| {
        assert_eq!(cluster.connect(down).call(&["GET", &key(309)]), bulk(&value(309)));
    });
    cluster.kill(down);
    (cluster, clerk, down)
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

fn value(n: usize) -> String {
    format!("{n}-").repeat(300)
}

fn data(cluster: &Cluster, id: usize) -> PathBuf {
    cluster.folder.path().join(format!("data-{id}"))
}

/// The files of a folder whose names end so, the newest last.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.is_file() && path.to_str().unwrap().ends_with(ending)).collect();
    files.sort();
    files
}

fn generation(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("state/1")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).max().unwrap()
}

fn tables(data: &Path) -> Vec<PathBuf> {
    files(&generation(data).join("tables"), "")
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_files_are_damaged_does_not_start_and_does_once_they_are_as_they_were() {
    let (mut cluster, clerk, down) = cluster_with_a_follower_down().await;
    let data = data(&cluster, down);
    let version = fs::read(generation(&data).join("current")).unwrap()[0];
    let manifest = generation(&data).join(format!("v{version}"));
    // After the header, in the first batch of those that later ones call durable.
    let log = files(&data.join("log"), ".raftlog").pop().unwrap();
    for (file, offset) in
        [(log, 100), (data.join("identity"), 20), (data.join("state/1/CURRENT"), 20), (manifest, 50)]
    {
        flip(&file, offset);
        cluster.restart(down);
        let status = tokio::task::block_in_place(|| cluster.await_end(down));
        assert!(!status.success(), "{}", file.display());
        let log = cluster.log(down);
        let sentence = log.lines().last().unwrap_or_default();
        let names_it = sentence.contains(file.to_str().unwrap()) && sentence.contains("is damaged");
        assert!(names_it && sentence.contains("Bring back the same bytes"), "{}:\n{log}", file.display());
        clerk.put("meanwhile", "1").await.expect("the others go on");
        flip(&file, offset);
    }
    cluster.restart(down);
    tokio::task::block_in_place(|| cluster.assert_states_equal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_is_never_served_and_stops_the_server() {
    let (mut cluster, clerk, down) = cluster_with_a_follower_down().await;
    let data = data(&cluster, down);
    let intact: Vec<(PathBuf, Vec<u8>)> =
        tables(&data).into_iter().map(|table| (table.clone(), fs::read(table).unwrap())).collect();
    for (table, bytes) in &intact {
        // In every block of values.
        let mut damaged = bytes.clone();
        (0..bytes.len() / 2).step_by(1000).for_each(|offset| damaged[offset] ^= 0x10);
        fs::write(table, damaged).unwrap();
    }
    cluster.restart(down);
    let status = tokio::task::block_in_place(|| {
        within(Duration::from_secs(30), || {
            (0..50).for_each(|n| assert_not_served_damaged(&cluster, down, n));
            cluster.try_end(down)
        })
    });
    assert!(!status.expect("it stops").success());
    let log = cluster.log(down);
    assert!(log.contains("gen-") && log.contains("Bring back the same bytes"), "{log}");
    clerk.put("meanwhile", "1").await.expect("the others go on");
    for (table, bytes) in intact {
        fs::write(table, bytes).unwrap();
    }
    cluster.restart(down);
    tokio::task::block_in_place(|| cluster.assert_states_equal());
}

/// The server gives the right value, an error, or nothing.
fn assert_not_served_damaged(cluster: &Cluster, id: usize, n: usize) {
    let Ok(mut connection) = Connection::open(cluster.port(id)) else { return };
    match connection.try_call(&["GET", &key(n)]) {
        None | Some(Value::Error(_)) => {}
        Some(reply) => assert_eq!(reply, bulk(&value(n))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_very_end_of_the_log_looks_torn_and_stops_the_server_once_the_leader_speaks() {
    let (mut cluster, clerk, down) = cluster_with_a_follower_down().await;
    let log = files(&data(&cluster, down).join("log"), ".raftlog").pop().unwrap();
    let bytes = fs::read(&log).unwrap();
    flip(&log, bytes.iter().rposition(|byte| *byte != 0).unwrap());
    cluster.restart(down);
    // It has forgotten an entry that it acknowledged to the leader.
    assert!(!tokio::task::block_in_place(|| cluster.await_end(down)).success());
    clerk.put("meanwhile", "1").await.expect("the others go on");
}
