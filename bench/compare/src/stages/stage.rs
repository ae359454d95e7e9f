//! Which stage a sample belongs to.

/// What a server spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Parse,
    Propose,
    Encode,
    Log,
    Network,
    Apply,
    StateFiles,
    Reply,
    Waiting,
    Other,
}

/// How the names of a stage's functions begin. The first line that fits counts; a function that fits none leaves it to its caller, as
/// do those of `kv`, which several stages use.
const FUNCTIONS: &[(Stage, &[&str])] = &[
    // The kernel's.
    (
        Stage::Waiting,
        &[
            "schedule",
            "__schedule",
            "finish_task_switch",
            "try_to_wake_up",
            "do_futex",
            "do_epoll",
            "ep_",
            "eventfd_",
        ],
    ),
    (Stage::Network, &["__sys_send", "__sys_recv", "sock_write_iter", "sock_read_iter", "net_rx_action"]),
    (Stage::Other, &["asm_common_interrupt", "asm_sysvec"]),
    // The server's.
    (
        Stage::Reply,
        &[
            "pontoon_server::client::connection::Connection::on_answers",
            "pontoon_server::client::connection::Connection::on_written",
            "pontoon_server::client::pipeline::Pipeline::encode",
            "pontoon_server::client::pipeline::Pipeline::finish",
            "pontoon_server::client::reply",
            "pontoon_server::gateway::Gateway::answer",
            "pontoon_wire::resp::encode",
            "pontoon_wire::resp::reply",
        ],
    ),
    (
        Stage::Parse,
        &[
            "pontoon_server::client::command",
            "pontoon_server::client::connection",
            "pontoon_server::client::listener",
            "pontoon_wire::resp",
        ],
    ),
    (Stage::Encode, &["pontoon_server::peer", "pontoon_wire::peer"]),
    (Stage::Propose, &["pontoon_replica", "pontoon_server::driver::core", "pontoon_server::inbox", "raft::"]),
    (Stage::Log, &["pontoon_server::driver::disk", "pontoon_storage::log", "raft_engine"]),
    (Stage::Apply, &["pontoon_kv::machine", "pontoon_server::driver::apply"]),
    (Stage::Waiting, &["std::thread::functions::park", "tokio::runtime"]),
];

/// How the names of a stage's threads begin. Those of the sockets have none: all that they do is named above.
const THREADS: &[(Stage, &str)] = &[
    (Stage::Propose, "pontoon-core"),
    (Stage::Log, "pontoon-log"),
    (Stage::Log, "log-"),
    (Stage::Apply, "pontoon-apply"),
    (Stage::StateFiles, "state-"),
];

/// The process and the stage of one sample of `perf script -F comm,pid,ip,sym`: a line with the thread's name and the process, and one
/// for each function on the stack, innermost first. None: it is no such sample.
pub fn attribute(sample: &str) -> Option<(u32, Stage)> {
    let (head, stack) = sample.trim().split_once('\n').unwrap_or((sample.trim(), ""));
    let (thread, pid) = head.trim().rsplit_once(char::is_whitespace)?;
    let functions = stack.lines().filter_map(|line| line.trim().split_once(' ').map(|(_, name)| name));
    let of_thread = || THREADS.iter().find(|(_, name)| thread.starts_with(name)).map(|(stage, _)| *stage);
    let stage = functions.filter_map(of_function).next().or_else(of_thread);
    Some((pid.parse().ok()?, stage.unwrap_or(Stage::Other)))
}

fn of_function(name: &str) -> Option<Stage> {
    // A method of a trait is `<Type as Trait>::method`.
    let name = name.trim_start_matches('<');
    let fits = |begins: &&str| name.starts_with(*begins);
    FUNCTIONS.iter().find(|(_, names)| names.iter().any(fits)).map(|(stage, _)| *stage)
}

impl Stage {
    /// In the order of a request's way.
    pub const ALL: [Stage; 10] = [
        Stage::Parse,
        Stage::Propose,
        Stage::Encode,
        Stage::Log,
        Stage::Network,
        Stage::Apply,
        Stage::StateFiles,
        Stage::Reply,
        Stage::Waiting,
        Stage::Other,
    ];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Parse => "parse",
            Stage::Propose => "propose (the core: raft-rs, replica)",
            Stage::Encode => "encode and decode (peer frames)",
            Stage::Log => "log",
            Stage::Network => "network (the kernel's sockets)",
            Stage::Apply => "apply",
            Stage::StateFiles => "state files (flush, compaction)",
            Stage::Reply => "reply",
            Stage::Waiting => "waiting and scheduling",
            Stage::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stage of a stack, innermost function first.
    fn stage(thread: &str, functions: &[&str]) -> Stage {
        let frames: String = functions.iter().map(|name| format!("\t    7f09c1 {name}\n")).collect();
        let (pid, stage) = attribute(&format!("{thread} 4711 \n{frames}")).expect("it is a sample");
        assert_eq!(pid, 4711);
        stage
    }

    #[test]
    fn the_innermost_function_with_a_stage_counts_whatever_the_thread() {
        let turn = "<pontoon_server::driver::core::Core as pontoon_server::inbox::Turns>::turn";
        let connection = "pontoon_server::client::connection::Connection::turn";
        assert_eq!(
            stage("pontoon-net", &["mi_find_page", "pontoon_wire::resp::request::read", connection]),
            Stage::Parse
        );
        assert_eq!(stage("pontoon-net", &["__memmove_avx", turn, connection]), Stage::Propose);
        assert_eq!(stage("pontoon-core", &["pontoon_server::gateway::Gateway::answer", turn]), Stage::Reply);
        assert_eq!(
            stage(
                "pontoon-core",
                &["tcp_sendmsg", "__sys_sendto", "pontoon_server::peer::pipe::Pipe::flush"]
            ),
            Stage::Network
        );
        assert_eq!(stage("pontoon-core", &["xxh3", "pontoon_wire::peer::encode::seal", turn]), Stage::Encode);
        assert_eq!(
            stage("pontoon-core", &["pontoon_kv::codec::put_bytes", "pontoon_replica::blocks::Blocks::push"]),
            Stage::Propose
        );
        assert_eq!(
            stage("pontoon-apply", &["clear_page_erms", "pontoon_kv::machine::Machine<S>::apply"]),
            Stage::Apply
        );
    }

    #[test]
    fn switches_are_waiting_and_interrupts_are_nobodys() {
        let log = "pontoon_storage::log::Log::write";
        assert_eq!(
            stage("pontoon-log", &["finish_task_switch.isra.0", "__schedule", "fdatasync", log]),
            Stage::Waiting
        );
        assert_eq!(
            stage("pontoon-net", &["try_to_wake_up", "ep_poll_callback", "__sys_sendto"]),
            Stage::Waiting
        );
        assert_eq!(
            stage("pontoon-net", &["epoll_wait", "tokio::runtime::io::driver::Driver::turn"]),
            Stage::Waiting
        );
        assert_eq!(stage("pontoon-log", &["virtio_queue_rq", "asm_common_interrupt", log]), Stage::Other);
    }

    #[test]
    fn a_stack_without_a_known_function_belongs_to_its_thread() {
        assert_eq!(
            stage("state-flush", &["lsm_tree::table::writer::Writer::write", "[unknown]"]),
            Stage::StateFiles
        );
        assert_eq!(stage("state-compact", &[]), Stage::StateFiles);
        assert_eq!(stage("log-spare", &["vfs_write"]), Stage::Log);
        assert_eq!(stage("pontoon-net", &["[unknown]"]), Stage::Other);
        assert_eq!(attribute("no sample"), None);
    }
}
