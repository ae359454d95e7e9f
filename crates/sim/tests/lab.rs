//! The classic suite's rows under their names, each on a few seeds.

use pontoon_sim::{lab::Row, world::Traced};

const SEEDS: [u64; 2] = [1, 2];

macro_rules! rows {
    ($($name:ident: $row:ident,)*) => {
        $(
            #[test]
            fn $name() {
                for seed in SEEDS {
                    if let Err(violation) = Row::$row.run(seed, Traced::No) {
                        panic!("{:?}, seed {seed}: {violation}", Row::$row);
                    }
                }
            }
        )*

        #[test]
        fn every_row_has_a_test() {
            assert_eq!(Row::ALL, [$(Row::$row),*]);
        }
    };
}

rows! {
    basic: Basic,
    speed: Speed,
    concurrent: Concurrent,
    unreliable: Unreliable,
    unreliable_one_key: UnreliableOneKey,
    one_partition: OnePartition,
    many_partitions_one_client: ManyPartitionsOneClient,
    many_partitions_many_clients: ManyPartitionsManyClients,
    persist_one_client: PersistOneClient,
    persist_concurrent: PersistConcurrent,
    persist_concurrent_unreliable: PersistConcurrentUnreliable,
    persist_partition: PersistPartition,
    persist_partition_unreliable: PersistPartitionUnreliable,
    persist_partition_unreliable_linearizable: PersistPartitionUnreliableLinearizable,
    snapshot_rpc: SnapshotRpc,
    snapshot_size: SnapshotSize,
    speed_with_snapshots: SpeedWithSnapshots,
    snapshot_recover: SnapshotRecover,
    snapshot_recover_many_clients: SnapshotRecoverManyClients,
    snapshot_unreliable: SnapshotUnreliable,
    snapshot_unreliable_recover: SnapshotUnreliableRecover,
    snapshot_unreliable_recover_concurrent_partition: SnapshotUnreliableRecoverConcurrentPartition,
    snapshot_unreliable_recover_concurrent_partition_linearizable:
        SnapshotUnreliableRecoverConcurrentPartitionLinearizable,
}
