//! `pontoon bench` against a real cluster.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::Cluster;

/// A short run against all servers of the cluster.
fn bench(cluster: &Cluster, flags: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pontoon"))
        .args(["bench", "--servers", &cluster.addresses().join(","), "--seconds", "1", "--keys", "200"])
        .args(flags.split_whitespace())
        .output()
        .unwrap()
}

fn report(cluster: &Cluster, flags: &str) -> Value {
    let output = bench(cluster, &format!("--json {flags}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags}: {said}\n{}", cluster.logs());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What holds of every run without faults.
fn assert_adds_up(report: &Value) {
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report}"));
    let operations = number("operations");
    assert!(operations > 0.0, "{report}");
    assert_eq!(report["errors"], serde_json::json!({}), "{report}");
    assert_eq!((&report["missing"], &report["connections_lost"]), (&0.into(), &0.into()), "{report}");
    let seconds = report["per_second"].as_array().unwrap();
    let sum: f64 = seconds.iter().map(|second| second["operations"].as_f64().unwrap()).sum();
    assert_eq!(sum, operations, "{report}");
    assert!((number("operations_per_second") * number("seconds") - operations).abs() < 1.0, "{report}");
    let latency = ["p50", "p99", "p999", "max"].map(|name| report["latency_us"][name].as_u64().unwrap());
    assert!(latency.is_sorted() && latency[0] > 0, "{report}");
    let costs = report["costs"].as_array().unwrap();
    assert_eq!(costs.len(), 3);
    for cost in costs {
        assert!(cost["cpu_seconds"].as_f64().unwrap() > 0.0, "{report}");
        assert!(cost["resident_bytes"].as_u64().unwrap() > 1 << 20, "{report}");
    }
}

#[test]
fn each_kind_of_load_is_measured_and_its_report_adds_up() {
    let cluster = Cluster::start(3, &[]);
    let length =
        |cluster: &Cluster, key: u64| match cluster.connect(1).call(&["STRLEN", &format!("key:{key:012}")]) {
            pontoon_wire::resp::Value::Integer(length) => length,
            other => panic!("{other:?}"),
        };

    let put = report(&cluster, "--op put --load --value-bytes 100 --clients 3 --inflight 8");
    assert_adds_up(&put);
    assert!((0..200).all(|key| length(&cluster, key) == 100), "--load writes every key");
    assert!(put["written_bytes_per_operation"].as_f64().is_some(), "{put}");

    let before = cluster.figure(1, "raft_last_index");
    let get = report(&cluster, "--op get --clients 7 --inflight 1");
    assert_adds_up(&get);
    let after = cluster.figure(1, "raft_last_index");
    assert_eq!(before, after, "gets touch no log");

    let append = report(&cluster, "--op append --value-bytes 10 --clients 2 --inflight 4 --sessions");
    assert_adds_up(&append);
    let appended: i64 = (0..200).map(|key| length(&cluster, key) - 100).sum();
    assert_eq!(appended, 10 * append["operations"].as_i64().unwrap(), "each append took effect once");

    assert_adds_up(&report(&cluster, "--op mixed --clients 4 --inflight 16 --sessions"));
    let open: Vec<_> = (1..=3).filter_map(|id| cluster.figure(id, "raft_sessions")).collect();
    assert_eq!(open.len(), 3);
}

#[test]
fn a_fixed_rate_is_kept_and_what_it_owes_is_told() {
    let cluster = Cluster::start(3, &[]);
    let kept = report(&cluster, "--rate 200 --clients 4 --inflight 4");
    assert_adds_up(&kept);
    let operations = kept["operations"].as_u64().unwrap();
    assert_eq!(operations + kept["unsent"].as_u64().unwrap(), 200, "{kept}");
    assert!(operations >= 150, "200 puts a second are few: {kept}");

    let too_much = report(&cluster, "--rate 50000000 --clients 1 --inflight 1");
    assert_adds_up(&too_much);
    assert!(too_much["unsent"].as_u64().unwrap() > 40_000_000, "{too_much}");
    assert!(
        too_much["latency_us"]["p50"].as_u64().unwrap() > 100_000,
        "latency counts from when a request was due: {too_much}"
    );
}

#[test]
fn what_cannot_be_measured_is_said_in_a_sentence() {
    let cluster = Cluster::start(1, &[]);
    let address = cluster.addresses().remove(0);
    for (flags, sentence) in [
        (format!("--servers {address} --sessions --op get"), "--sessions is for writes".to_string()),
        (
            format!("--servers {address},127.0.0.1:1"),
            "connection 1 to 127.0.0.1:1 cannot be used: connection refused".to_string(),
        ),
        (
            format!("--servers 127.0.0.1:{}", cluster.peer_port(1)),
            format!("connection 0 to 127.0.0.1:{}", cluster.peer_port(1)),
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pontoon"))
            .arg("bench")
            .args(flags.split_whitespace())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&sentence), "{flags}: {said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    }
    let text = String::from_utf8(bench(&cluster, "--op get").stdout).unwrap();
    assert!(text.contains("throughput") && text.contains("gets found no such key"), "{text}");
}
