//! Whatever is wrong with the input: one clear sentence that says what to change, exit code 1, and nothing changed on disk.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

/// `pontoon serve --data DIR ARGS...` must refuse, and leave the folder alone.
fn serve_refusal(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let sentence = refusal(pontoon(&["serve", "--data", data.to_str().unwrap()]).args(args));
    assert_absent(&data);
    sentence
}

/// A configuration file of this text must be refused.
fn file_refusal(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pontoon.toml");
    fs::write(&file, text).unwrap();
    serve_refusal(&["--config", file.to_str().unwrap()])
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is missing in: {sentence}");
    }
}

const THREE: &str = "1=127.0.0.1:8001,2=127.0.0.1:8002,3=127.0.0.1:8003";

#[test]
fn unknown_commands_and_flags_are_named() {
    assert_says(&refusal(&mut pontoon(&["sreve"])), &["'sreve'", "serve"]);
    assert_says(&serve_refusal(&["--lisen", "127.0.0.1:1"]), &["'--lisen'", "--listen"]);
    assert_says(&refusal(&mut pontoon(&["up", "--node", "3"])), &["'--node'", "--nodes"]);
    assert_says(&refusal(&mut pontoon(&[])), &["pontoon up"]);
}

#[test]
fn missing_arguments_are_named() {
    assert_says(&refusal(&mut pontoon(&["put", "key"])), &["<VALUE>"]);
    assert_says(&refusal(&mut pontoon(&["del"])), &["<KEY>"]);
    assert_says(&refusal(&mut pontoon(&["serve"])), &["--data"]);
}

#[test]
fn an_unknown_setting_in_the_file_is_named_with_the_file() {
    assert_says(&file_refusal("id = 1\nlisen = \"127.0.0.1:1\"\n"), &["pontoon.toml", "\"lisen\""]);
}

#[test]
fn a_wrong_value_in_the_file_is_named_with_its_line() {
    assert_says(&file_refusal("id = 1\nrequest-timeout = \"5\"\n"), &["pontoon.toml, line 2", "500ms"]);
    assert_says(&file_refusal("id = \"one\"\n"), &["pontoon.toml, line 1"]);
    assert_says(&file_refusal("id 1\n"), &["pontoon.toml, line 1"]);
    assert_says(&file_refusal("[cluster]\n1 = \"here\"\n"), &["member 1's address \"here\""]);
}

#[test]
fn a_missing_configuration_file_is_named() {
    assert_says(&serve_refusal(&["--config", "/nowhere/pontoon.toml"]), &["/nowhere/pontoon.toml"]);
}

#[test]
fn a_wrong_value_in_the_environment_is_named() {
    let sentence = refusal(pontoon(&["serve", "--data", "/nowhere/data"]).env("PONTOON_TICK_MS", "fast"));
    assert_says(&sentence, &["'fast'", "--tick-ms"]);
}

#[test]
fn a_bad_cluster_is_refused() {
    assert_says(&serve_refusal(&["--id", "1", "--cluster", "1"]), &["ID=HOST:PORT"]);
    assert_says(&serve_refusal(&["--id", "1", "--cluster", "1=a:1,1=b:1"]), &["member 1 is named twice"]);
    assert_says(&serve_refusal(&["--cluster", THREE]), &["--id", "1, 2, 3"]);
    assert_says(&serve_refusal(&["--id", "4", "--cluster", THREE]), &["id 4", "1, 2, 3", "--cluster"]);
    assert_says(&serve_refusal(&["--id", "1", "--cluster", THREE]), &["--peer-listen"]);
}

#[test]
fn a_cluster_that_others_can_reach_needs_a_secret() {
    let args =
        ["--id", "1", "--peer-listen", "127.0.0.1:8001", "--cluster", "1=127.0.0.1:8001,2=10.0.0.2:8001"];
    assert_says(&serve_refusal(&args), &["member 2", "10.0.0.2:8001", "--secret-file"]);
}

#[test]
fn settings_out_of_range_are_named_with_the_range() {
    for (flag, value, range) in [
        ("--id", "0", "from 1"),
        ("--tick-ms", "0", "from 1 to 1000"),
        ("--connections-max", "0", "from 1 to"),
        ("--request-timeout", "1ms", "from 10 to 600000 ms"),
        ("--value-bytes-max", "1GiB", "from 1 to 134217728 bytes"),
        ("--session-ttl", "0s", "from 1000 to"),
    ] {
        assert_says(&serve_refusal(&[flag, value]), &[flag.trim_start_matches("--"), range]);
    }
    assert_says(
        &serve_refusal(&["--election-ticks", "3", "--heartbeat-ticks", "2"]),
        &["--election-ticks", "twice"],
    );
    assert_says(&serve_refusal(&["--listen", "7001"]), &["--listen", "\"7001\"", "HOST:PORT"]);
    assert_says(&serve_refusal(&["--password", ""]), &["--password"]);
    assert_says(&serve_refusal(&["--log-level", "loud=very"]), &["loud=very"]);
}

#[test]
fn a_secret_is_given_once_and_is_readable() {
    assert_says(&serve_refusal(&["--secret", "a", "--secret-file", "b"]), &["--secret and --secret-file"]);
    assert_says(&serve_refusal(&["--secret-file", "/nowhere/secret"]), &["--secret-file /nowhere/secret"]);
}

#[test]
fn a_server_whose_port_is_taken_starts_nothing() {
    let (_held, port) = taken_port();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let address = format!("127.0.0.1:{port}");
    let output =
        pontoon(&["serve", "--data", data.to_str().unwrap(), "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let sentences: Vec<_> = said.lines().filter(|line| line.starts_with("pontoon: ")).collect();
    assert_eq!(sentences.len(), 1, "{said}");
    assert_says(sentences[0], &[&address]);
    assert_absent(&data);
}

#[test]
fn a_cluster_whose_port_is_taken_starts_nothing() {
    let (_held, port) = taken_port();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("cluster");
    for (flag, port) in [("--port", port), ("--peer-port", port)] {
        let port_text = port.to_string();
        let mut args = vec!["up", "--nodes", "1", "--dir", data.to_str().unwrap(), flag, &port_text];
        let other = free_port().to_string();
        if flag == "--peer-port" {
            args.extend(["--port", &other]);
        }
        let sentence = refusal(&mut pontoon(&args));
        assert_says(&sentence, &[&format!("port {port} is taken"), flag]);
    }
    assert_absent(&data);
}

#[test]
fn a_folder_without_permission_is_named() {
    let sentence = refusal(&mut pontoon(&[
        "up",
        "--dir",
        "/proc/pontoon",
        "--nodes",
        "1",
        "--port",
        &free_port().to_string(),
    ]));
    assert_says(&sentence, &["/proc/pontoon", "--dir"]);
}

#[test]
fn clients_need_well_formed_servers_and_times() {
    assert_says(&refusal(&mut pontoon(&["get", "k", "--servers", "nowhere"])), &["HOST:PORT"]);
    assert_says(&refusal(&mut pontoon(&["get", "k", "--timeout", "5"])), &["500ms"]);
}

#[test]
fn clients_of_a_cluster_that_is_down_surely_did_nothing() {
    let servers = format!("127.0.0.1:{}", free_port());
    for args in [vec!["put", "k", "v"], vec!["get", "k"], vec!["append", "k", "v"], vec!["del", "k"]] {
        let sentence = refusal(pontoon(&args).args(["--servers", &servers, "--timeout", "300ms"]));
        assert!(!sentence.is_empty());
    }
}

#[test]
fn the_status_of_a_cluster_that_is_down_is_a_table_and_exit_code_1() {
    let server = format!("127.0.0.1:{}", free_port());
    let output = pontoon(&["status", "--servers", &server]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert_says(&table, &["SERVER", &server, "unreachable: connection refused"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["up", "--help"], &["help", "get"]] {
        let output = pontoon(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_helps_defaults_are_the_servers() {
    let output = pontoon(&["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let defaults = pontoon_server::Settings::new(pontoon_kv::NodeId(1), Path::new("data").to_path_buf());
    let limits = defaults.cluster.limits;
    let size = |bytes: u64| match bytes >> 20 {
        0 => format!("{}KiB", bytes >> 10),
        mib => format!("{mib}MiB"),
    };
    for (setting, default) in [
        ("--listen", defaults.listen.clone()),
        ("--peer-listen", defaults.peer_listen.clone()),
        ("--cluster-id", defaults.cluster.id.clone()),
        ("--connections-max", defaults.connections_max.to_string()),
        ("--request-timeout", format!("{}s", defaults.request_timeout.as_secs())),
        ("--snapshot-log-bytes", size(defaults.snapshot_log_bytes.unwrap())),
        ("--tick-ms", defaults.tick.as_millis().to_string()),
        ("--heartbeat-ticks", defaults.heartbeat_ticks.to_string()),
        ("--election-ticks", defaults.election_ticks.to_string()),
        ("--cache-bytes", size(defaults.cache_bytes)),
        ("--memtable-bytes", size(defaults.memtable_bytes)),
        ("--key-bytes-max", size(limits.key_bytes_max.into())),
        ("--value-bytes-max", size(limits.value_bytes_max.into())),
        ("--sessions-max", limits.sessions_max.to_string()),
        ("--session-window", limits.session_window.to_string()),
        ("--session-ttl", format!("{}m", limits.session_ttl_ms / 60_000)),
    ] {
        let text =
            help.split(&format!("{setting} <")).nth(1).unwrap_or_else(|| panic!("{setting} has no help"));
        let told = text.split("[default: ").nth(1).and_then(|text| text.split(']').next());
        assert_eq!(told, Some(default.as_str()), "{setting}");
    }
}

fn free_port() -> u16 {
    taken_port().1
}

/// A `pontoon` whose settings come from its arguments alone.
fn pontoon(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PONTOON_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// Asserts that the command refuses with exit code 1 and one sentence on stderr, which is returned.
fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(1), "{command:?} said {said:?}");
    assert_eq!(stdout, b"", "nothing was done, so there is nothing to print");
    assert_eq!(said.lines().count(), 1, "one sentence: {said:?}");
    said.strip_prefix("pontoon: ").expect("says who speaks").trim_end().to_string()
}

/// Asserts that nothing was made at this path.
fn assert_absent(path: &Path) {
    assert!(!path.exists(), "{} was made", path.display());
}

/// A listener at a port of the system's choice, below the highest thousand, so that a peer port fits above.
fn taken_port() -> (TcpListener, u16) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let port = listener.local_addr().expect("it is bound").port();
        if port < 64_000 {
            return (listener, port);
        }
    }
}
