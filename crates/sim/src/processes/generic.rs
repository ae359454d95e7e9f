//! The original's `GenericTest`: rounds on one cluster, each with fresh clients.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{Form, cluster::Cluster, load::Load, record::Record};
use crate::{check::Violation, lab::Generic};

pub(super) async fn run(cluster: &Cluster, row: Generic, form: &Form) -> Result<(), Violation> {
    for round in 0..form.rounds() {
        play(cluster, row, round, form).await?;
    }
    Ok(())
}

async fn play(cluster: &Cluster, row: Generic, round: u64, form: &Form) -> Result<(), Violation> {
    let record = Arc::new(Record::new(cluster.tally.clone()));
    let load = Load::start(cluster, &record, row, round);
    let lead_in = if row.partitions { form.pause() } else { Duration::ZERO };
    let end = Instant::now() + lead_in + form.round();
    let partitions = async {
        if row.partitions {
            sleep(lead_in).await;
            partition_until(end, cluster).await;
        }
    };
    let crashes = async { if row.crash { crash_until(end, cluster).await } else { Ok(()) } };
    let ((), crashed, ()) = tokio::join!(partitions, crashes, sleep_until(end));
    crashed?;
    load.tell_to_stop();
    cluster.links.connect();
    if row.partitions {
        sleep(form.pause()).await;
    }
    if row.crash {
        cluster.crash_all(form.pause()).await?;
    }
    load.ended().await?;
    cluster.check_log_size().await?;
    let record = Arc::into_inner(record).expect("the clients have ended");
    record.check(&cluster.clerk()).await
}

/// Each server goes to one of two sides by a fair coin, about once a second. Beyond the original: now and then there is one that
/// hears its side and is not heard.
async fn partition_until(end: Instant, cluster: &Cluster) {
    let mut rng = cluster.links.fork();
    while Instant::now() < end {
        let side: Vec<bool> = cluster.all().map(|_| rng.chance(0.5)).collect();
        cluster.links.partition(&side);
        if rng.chance(0.25) {
            cluster.links.mute(rng.below(cluster.len() as u64) as usize);
        }
        let until = Instant::now() + Duration::from_millis(1_000 + rng.below(200));
        sleep_until(until.min(end)).await;
    }
}

/// Beyond the original: servers also crash one by one while clients are busy.
async fn crash_until(end: Instant, cluster: &Cluster) -> Result<(), Violation> {
    let mut rng = cluster.links.fork();
    loop {
        sleep(Duration::from_millis(rng.within((300, 1_500)))).await;
        if Instant::now() >= end {
            return Ok(());
        }
        let server = rng.below(cluster.len() as u64) as usize;
        cluster.kill(server).await?;
        sleep(Duration::from_millis(rng.within((10, 1_000)))).await;
        cluster.restart(server).await?;
    }
}
