//! The quick form of the lab suite against real processes: a handful of rows that have between them all faults and all checks.
//! The whole suite: `cargo run --release -p pontoon-sim -- lab`.

use pontoon_sim::{
    lab::{Row, RsmRow},
    processes::{Form, LabRow, binary},
};

const EVERYTHING: LabRow = LabRow::Classic(Row::SnapshotUnreliableRecoverConcurrentPartitionLinearizable);

const ROWS: [LabRow; 8] = [
    LabRow::Classic(Row::Concurrent),
    LabRow::Classic(Row::UnreliableOneKey),
    LabRow::Classic(Row::OnePartition),
    LabRow::Classic(Row::SnapshotRpc),
    LabRow::Classic(Row::SnapshotSize),
    EVERYTHING,
    LabRow::Rsm(RsmRow::LeaderPartition),
    LabRow::Rsm(RsmRow::RestartSubmit),
];

// One test, so that the clusters do not compete for the processors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn representative_rows_pass() {
    let binary = binary::find().unwrap_or_else(|what| panic!("{what}"));
    let form = Form { binary, seed: 1, quick: true };
    for row in ROWS {
        let done = row.run(&form).await.unwrap_or_else(|what| panic!("{}: {what}", row.name()));
        assert!(done.tally.operations() > 0, "{} did nothing", row.name());
        if row == EVERYTHING {
            let faults = [done.tally.crashes(), done.tally.partitions(), done.tally.lost()];
            assert!(faults.iter().all(|count| *count > 0), "all kinds of faults were there: {faults:?}");
        }
    }
}
