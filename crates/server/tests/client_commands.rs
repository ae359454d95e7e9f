//! What clients ask and what they are told, as transcripts. Error texts are those of Redis 7.0.

mod client_support;

use client_support::{Server, settings};
use pontoon_kv::{Command, CommandError, Refusal, Reply, SessionId, SetCondition};
use pontoon_replica::{Answer, NotExecuted, Request, Unknown};

#[tokio::test]
async fn requests_that_are_answered_without_the_core() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for (request, reply) in [
        ("PING", "+PONG"),
        ("ping hello", "$5\r\nhello"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        ("ECHO hello", "$5\r\nhello"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command"),
        ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("foo", "-ERR unknown command 'foo', with args beginning with: "),
        ("SELECT 0", "+OK"),
        ("SELECT 1", "-ERR DB index is out of range"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("CLIENT ID", ":1"),
        ("CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command"),
        ("CLIENT foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP."),
        ("CLIENT GETNAME", "$-1"),
        ("CLIENT SETNAME me", "+OK"),
        ("CLIENT GETNAME", "$2\r\nme"),
        (
            "CLIENT SETNAME \"a b\"",
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        ("CLIENT SETINFO lib-name pontoon", "+OK"),
        ("CLIENT SETINFO a b", "-ERR Unrecognized option 'a'"),
        ("CLIENT NO-EVICT on", "+OK"),
        ("CLIENT NO-EVICT x", "-ERR syntax error"),
        ("CLIENT REPLY ON", "+OK"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n"),
        ("CONFIG GET foo", "*0"),
        ("CONFIG GET DATA* appendonly", "*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$9\r\ndatabases\r\n$1\r\n1"),
        ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command"),
        ("CONFIG foo", "-ERR unknown subcommand 'foo'. Try CONFIG HELP."),
        ("COMMAND COUNT", ":27"),
        (
            "COMMAND INFO get nosuch",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
             *3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*0\r\n*0\r\n$-1",
        ),
        ("COMMAND foo", "-ERR unknown subcommand 'foo'. Try COMMAND HELP."),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
        ("MSET a b c", "-ERR wrong number of arguments for 'mset' command"),
        ("SET a b NX XX", "-ERR syntax error"),
        ("SET a b FOO", "-ERR syntax error"),
        (
            "SET a b ex 10",
            "-ERR SET with a time option (EX) is not supported yet: keys do not expire; not executed",
        ),
        ("INCRBY a x", "-ERR value is not an integer or out of range"),
        ("INCRBY a 9223372036854775808", "-ERR value is not an integer or out of range"),
        ("DECRBY a -9223372036854775808", "-ERR decrement would overflow"),
        ("SESSION CLOSE", "-ERR wrong number of arguments for 'session|close' command"),
        ("SESSION CLOSE x", "-ERR value is not an integer or out of range"),
        ("ONCE 1 2 3 PING", "-ERR not executed; 'ping' is not a command on data"),
        ("ONCE 1 2 3 GET", "-ERR wrong number of arguments for 'get' command"),
        ("BATCH 1 3 GET k", "-ERR syntax error"),
        ("BATCH 1 2 GET k more", "-ERR syntax error"),
        ("BATCH 2 2 GET k", "-ERR syntax error"),
        ("BATCH 1 4 BATCH 1 2 GET k", "-ERR not executed; a batch holds no batch"),
        ("DEBUG DIGEST", "+c0ffee"),
        ("DEBUG SEGFAULT", "-ERR unknown subcommand 'SEGFAULT'. Try DEBUG HELP."),
        ("RESET", "+RESET"),
        ("CLIENT GETNAME", "$-1"),
        ("QUIT", "+OK"),
    ] {
        client.send(format!("{request}\r\n")).await;
        client.expect(format!("{reply}\r\n")).await;
    }
    client.expect_closed().await;
    server.assert_nothing_submitted();
}

#[tokio::test]
async fn requests_as_the_core_sees_them() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let set =
        |condition, return_old| Command::Set { key: "k".into(), value: "v".into(), condition, return_old };
    let plain = Request::Plain;
    let incr = |delta| Command::IncrBy { key: "k".into(), delta };
    for (line, request) in [
        ("GET k", plain(Command::Get { key: "k".into() })),
        ("set k v", plain(set(SetCondition::Always, false))),
        ("SET k v nx", plain(set(SetCondition::IfAbsent, false))),
        ("SET k v GET XX", plain(set(SetCondition::IfPresent, true))),
        ("APPEND k v", plain(Command::Append { key: "k".into(), value: "v".into() })),
        ("DEL k l", plain(Command::Del { keys: vec!["k".into(), "l".into()] })),
        ("EXISTS k l", plain(Command::Exists { keys: vec!["k".into(), "l".into()] })),
        ("STRLEN k", plain(Command::StrLen { key: "k".into() })),
        (
            "MSET k v l \"\"",
            plain(Command::MSet { pairs: vec![("k".into(), "v".into()), ("l".into(), "".into())] }),
        ),
        ("INCR k", plain(incr(1))),
        ("DECR k", plain(incr(-1))),
        ("INCRBY k -5", plain(incr(-5))),
        ("DECRBY k 5", plain(incr(-5))),
        (
            "BATCH 2 3 SET k v 2 GET k",
            plain(Command::Batch {
                commands: vec![set(SetCondition::Always, false), Command::Get { key: "k".into() }],
            }),
        ),
        ("SESSION KEEPALIVE 65536", Request::KeepAliveSession(SessionId(65536))),
        ("SESSION CLOSE 65536", Request::CloseSession(SessionId(65536))),
    ] {
        client.send(format!("{line}\r\n")).await;
        let batch = server.next().await;
        assert_eq!(batch[0].1, request, "{line}");
        server.gateway.answer(vec![(batch[0].0, Answer::Done)]);
        client.expect("+OK\r\n").await;
    }
}

#[tokio::test]
async fn every_outcome_has_its_code_and_says_whether_it_happened() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let not = Answer::NotExecuted;
    for (answer, start) in [
        (
            Answer::Reply(Reply::Error(CommandError::NotAnInteger)),
            "-ERR value is not an integer or out of range",
        ),
        (Answer::Reply(Reply::Error(CommandError::Overflow)), "-ERR increment or decrement would overflow"),
        (not(NotExecuted::NotReady), "-NOTREADY not executed"),
        (not(NotExecuted::Busy), "-BUSY surely not executed"),
        (not(NotExecuted::Stopping), "-STOPPING not executed"),
        (not(NotExecuted::TooLarge("too long".into())), "-ERR not executed; too long"),
        (not(NotExecuted::Refused(Refusal::SessionUnknown)), "-SESSIONEXPIRED not executed by this attempt"),
        (not(NotExecuted::Refused(Refusal::Stale)), "-STALE not executed by this attempt"),
        (not(NotExecuted::Refused(Refusal::OutsideWindow)), "-OUTSIDEWINDOW not executed"),
        (not(NotExecuted::Refused(Refusal::TooManySessions)), "-TOOMANYSESSIONS not executed"),
        (
            Answer::Unknown(Unknown::TimedOut),
            "-UNKNOWN no outcome within the request timeout: it may or may not have been executed",
        ),
        (Answer::Unknown(Unknown::Missed), "-UNKNOWN "),
        (Answer::Unknown(Unknown::Stopping), "-UNKNOWN "),
    ] {
        client.send("INCR k\r\n").await;
        let batch = server.next().await;
        server.gateway.answer(vec![(batch[0].0, answer)]);
        let line = client.line().await;
        assert!(line.starts_with(start), "{line}");
        if line.starts_with("-UNKNOWN") {
            assert!(line.contains("may or may not have been executed"), "{line}");
        }
    }
}

#[tokio::test]
async fn hello_changes_the_protocol_from_its_own_reply_on() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET k\r\nHELLO 3 SETNAME me\r\nGET k\r\nCONFIG GET save\r\nCLIENT GETNAME\r\nHELLO 2\r\nGET k\r\n").await;
    let batch = server.next().await;
    assert_eq!(batch.len(), 3);
    for (ticket, _) in batch.iter().rev() {
        server.answer(*ticket, Reply::Nil);
    }
    let greeting = |header: &str, protocol: u8| {
        format!(
            "{header}\r\n$6\r\nserver\r\n$7\r\npontoon\r\n$7\r\nversion\r\n$5\r\n{}\r\n$5\r\nproto\r\n:{protocol}\r\n$2\r\nid\r\n:1\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
            env!("CARGO_PKG_VERSION")
        )
    };
    client.expect("$-1\r\n").await;
    client.expect(greeting("%7", 3)).await;
    client.expect("_\r\n%1\r\n$4\r\nsave\r\n$0\r\n\r\n$2\r\nme\r\n").await;
    client.expect(greeting("*14", 2)).await;
    client.expect("$-1\r\n").await;
    client.ask(&["HELLO", "4"], "-NOPROTO unsupported protocol version\r\n").await;
    client.ask(&["HELLO", "x"], "-ERR Protocol version is not an integer or out of range\r\n").await;
    client.ask(&["HELLO", "3", "foo"], "-ERR Syntax error in HELLO option 'foo'\r\n").await;
}

#[tokio::test]
async fn without_the_password_nothing_is_done() {
    let mut settings = settings();
    settings.password = Some("secret".to_string());
    let server = Server::with(settings, 16).await;
    let mut client = server.connect().await;
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let required = "-NOAUTH Authentication required.\r\n";
    for request in [&["PING"][..], &["GET", "k"], &["INFO"], &["DEBUG", "DIGEST"], &["SESSION", "OPEN"]] {
        client.ask(request, required).await;
    }
    for (request, reply) in [
        (&["foo"][..], "-ERR unknown command 'foo', with args beginning with: \r\n"),
        (&["AUTH", "wrong"], wrong),
        (&["AUTH", "secre"], wrong),
        (&["AUTH", "root", "secret"], wrong),
        (&["AUTH", "a", "b", "c"], "-ERR syntax error\r\n"),
        (&["HELLO", "3", "AUTH", "default", "wrong"], wrong),
        (&["PING"], required),
        (&["SET", "k", &"x".repeat(20_000)], required),
        (&["AUTH", "secret"], "+OK\r\n"),
        (&["PING"], "+PONG\r\n"),
        (&["RESET"], "+RESET\r\n"),
        (&["PING"], required),
    ] {
        client.ask(request, reply).await;
    }
    client.send(client_support::frame(&["AUTH", "secret"])).await;
    client.expect("+OK\r\n").await;
    client.send(client_support::frame(&["SET", "k", &"x".repeat(20_000)])).await;
    let batch = server.next().await;
    server.answer(batch[0].0, Reply::Ok);
    client.expect("+OK\r\n").await;
    client.ask(&["RESET"], "+RESET\r\n").await;
    client.send("HELLO\r\n").await;
    assert!(
        client.line().await.starts_with("-NOAUTH HELLO must be called with the client already authenticated")
    );
    client.send("HELLO 3 AUTH default secret\r\n").await;
    assert_eq!(client.line().await, "%7");
    server.assert_nothing_submitted();
    let mut garbage = server.connect().await;
    garbage.send("*11\r\n").await;
    garbage.expect("-ERR Protocol error: invalid multibulk length\r\n").await;
    garbage.expect_closed().await;
}

#[tokio::test]
async fn auth_without_a_password_set_says_so_as_redis_does() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("AUTH secret\r\n").await;
    let error = client.line().await;
    assert!(error.starts_with("-ERR AUTH <password> called without any password configured"), "{error}");
    client.ask(&["AUTH", "default", "anything"], "+OK\r\n").await;
    client.ask(&["PING"], "+PONG\r\n").await;
}

#[tokio::test]
async fn info_tells_of_the_server_in_sections() {
    let server = Server::start().await;
    server.gateway.update(|status| {
        status.replica.term = pontoon_kv::Term(7);
        status.replica.leader = Some(pontoon_kv::NodeId(1));
        status.sessions = 3;
    });
    let mut client = server.connect().await;
    client.send("INFO\r\n").await;
    let all = client.text().await;
    for line in [
        "# Server",
        "redis_version:7.0.0",
        "# Clients",
        "connected_clients:1",
        "# Memory",
        "# Stats",
        "total_connections_received:1",
        "# Raft",
        "raft_role:follower",
        "raft_term:7",
        "raft_leader:1",
        "raft_leader_addr:127.0.0.1:8001",
        "raft_sessions:3",
    ] {
        assert!(all.lines().any(|has| has == line), "{line} is missing in {all}");
    }
    client.send("INFO raft foo\r\n").await;
    let raft = client.text().await;
    assert!(raft.starts_with("# Raft\r\n") && !raft.contains("# Server"), "{raft}");
    client.ask(&["INFO", "foo"], "$0\r\n\r\n").await;
}
