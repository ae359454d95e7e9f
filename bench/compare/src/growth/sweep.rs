//! Puts and gets against one quantity.

use anyhow::Result;

use super::{
    Finding,
    lab::{Cluster, Lab},
};
use crate::{
    document::{Panel, Series, count, ms, plot, say, table},
    load::{
        Op,
        resp::{Load, Report},
    },
};

/// All values of a run take about this much at most, so that the largest ones fit on the disk.
const STATE_BYTES_MAX: u64 = 1 << 30;

/// One value of the quantity, and what was measured there.
struct Point {
    x: f64,
    label: String,
    put: Report,
    get: Report,
    resident_bytes_max: u64,
}

/// Against the number of keys.
pub fn keys(lab: &Lab, keys_max: u64) -> Result<Finding> {
    let mut points = Vec::new();
    for keys in [10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|keys| *keys <= keys_max) {
        let cluster = lab.cluster(3, &[])?;
        let shape = |load| Load { keys, ..load };
        points.push(measure(lab, &cluster, keys as f64, count(Some(keys as f64)), shape)?);
    }
    let text = "Values of 256 bytes, 16 x 64 in flight, three servers. Every key was written once before.";
    Ok(finding("keys", "Number of keys", "keys", true, text, &points))
}

/// Against the value's size.
pub fn values(lab: &Lab) -> Result<Finding> {
    let (mut points, mut failed) = (Vec::new(), String::new());
    for value_bytes in [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
        let cluster = lab.cluster(3, &[])?;
        let keys = (STATE_BYTES_MAX / value_bytes).clamp(100, 10_000);
        let shape = |load| Load { keys, value_bytes, connections: 8, inflight: 8, ..load };
        match measure(lab, &cluster, value_bytes as f64, size(value_bytes), shape) {
            Ok(point) => points.push(point),
            // What is measured so far is worth telling, and so is this.
            Err(error) => {
                let why = error.to_string();
                let why = why.rsplit("pontoon: ").next().unwrap_or_default();
                failed = format!(" **With {} and more the load failed**: {why}.", size(value_bytes));
                break;
            }
        }
    }
    let text = format!("8 x 8 in flight, three servers; 10,000 keys, or as many as 1 GiB holds.{failed}");
    Ok(finding("values", "Value size", "bytes of a value", true, &text, &points))
}

/// Against the requests in flight.
pub fn inflight(lab: &Lab) -> Result<Finding> {
    let cluster = lab.cluster(3, &[])?;
    let mut points = Vec::new();
    for all in [1, 4, 16, 64, 256, 1024, 4096] {
        let connections = 16.min(all);
        let shape = |load| Load { connections, inflight: all / connections, ..load };
        points.push(measure(lab, &cluster, all as f64, all.to_string(), shape)?);
    }
    let text = "Values of 256 bytes, 100,000 keys, three servers; up to 16 connections share the requests.";
    Ok(finding("inflight", "Requests in flight", "requests in flight", true, text, &points))
}

/// Against the number of servers.
pub fn servers(lab: &Lab) -> Result<Finding> {
    let mut points = Vec::new();
    for servers in [1, 3, 5] {
        let cluster = lab.cluster(servers, &[])?;
        points.push(measure(lab, &cluster, servers as f64, servers.to_string(), |load| load)?);
    }
    let text = "Values of 256 bytes, 100,000 keys, 16 x 64 in flight. All servers share this machine's cores and disk.";
    Ok(finding("servers", "Number of servers", "servers", false, text, &points))
}

/// Loads the keys, then measures puts and gets.
fn measure(
    lab: &Lab,
    cluster: &Cluster,
    x: f64,
    label: String,
    shape: impl Fn(Load) -> Load,
) -> Result<Point> {
    let put = Load { load_first: true, ..shape(lab.load(cluster, Op::Put)?) }.run()?;
    let get = shape(lab.load(cluster, Op::Get)?).run()?;
    let resident: Result<Vec<u64>> =
        cluster.pontoon.processes().iter().map(|process| process.resident_bytes()).collect();
    say(format_args!(
        "{label}: {:.0} puts/s, {:.0} gets/s",
        put.operations_per_second, get.operations_per_second
    ));
    Ok(Point { x, label, put, get, resident_bytes_max: resident?.into_iter().max().unwrap_or(0) })
}

fn finding(
    name: &'static str,
    title: &'static str,
    x_label: &str,
    logarithmic: bool,
    text: &str,
    points: &[Point],
) -> Finding {
    let header = [
        x_label,
        "put /s",
        "put p50 ms",
        "put p99 ms",
        "get /s",
        "get p50 ms",
        "get p99 ms",
        "bytes written per put, all servers",
        "processor µs per put, all servers",
        "memory MiB, largest server",
    ];
    let rows: Vec<_> = points.iter().map(row).collect();
    let line = |name: &str, y: &dyn Fn(&Point) -> f64| Series {
        name: name.to_string(),
        points: points.iter().map(|point| (point.x, y(point))).collect(),
    };
    let throughput = Panel {
        label: "requests per second".to_string(),
        series: vec![
            line("put", &|point| point.put.operations_per_second),
            line("get", &|point| point.get.operations_per_second),
        ],
    };
    let latency = Panel {
        label: "p99, ms".to_string(),
        series: vec![
            line("put", &|point| point.put.latency_us.p99 as f64 / 1e3),
            line("get", &|point| point.get.latency_us.p99 as f64 / 1e3),
        ],
    };
    let plot = plot(title, x_label, logarithmic, &[throughput, latency]);
    Finding { name, title, text: format!("{text}\n\n{}", table(&header, &rows)), plot }
}

fn row(point: &Point) -> Vec<String> {
    let latencies = |report: &Report| {
        let latency = &report.latency_us;
        [ms(Some(latency.p50 as f64 / 1e3)), ms(Some(latency.p99 as f64 / 1e3))]
    };
    let mut row = vec![point.label.clone()];
    for report in [&point.put, &point.get] {
        row.push(count(Some(report.operations_per_second)));
        row.extend(latencies(report));
    }
    row.push(count(point.put.written_bytes_per_operation));
    row.push(point.put.cpu_us_per_operation().map_or(String::new(), |us| format!("{us:.1}")));
    row.push((point.resident_bytes_max >> 20).to_string());
    row
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}
