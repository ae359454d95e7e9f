//! A pipelined connection sees what it would see if the server executed one request after the other.

// A failing seed has to be told.
#![allow(clippy::print_stderr)]

mod client_support;

use std::{collections::BTreeMap, num::NonZero};

use bytes::{Bytes, BytesMut};
use client_support::{Client, PATIENCE, Random, Server, execute, frame, settings};
use pontoon_kv::{Command, Reply, Seq, SessionId};
use pontoon_replica::{Answer, Request};
use pontoon_server::{inbox::Inbox, network::Network};
use pontoon_wire::resp::{self, Protocol, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn command(request: &Request) -> &Command {
    match request {
        Request::Plain(command) => command,
        other => panic!("a plain request, not {other:?}"),
    }
}

#[tokio::test]
async fn replies_leave_in_the_order_of_requests_however_answers_come() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("SET a 1\r\nPING\r\nSET b 2\r\nAPPEND c xyz\r\nECHO hi\r\n").await;
    let batch = server.next().await;
    assert_eq!(batch.len(), 3, "one batch holds all that goes to the core");
    server.answer(batch[2].0, Reply::Integer(3));
    server.answer(batch[1].0, Reply::Nil);
    server.answer(batch[0].0, Reply::Ok);
    client.expect("+OK\r\n+PONG\r\n$-1\r\n:3\r\n$2\r\nhi\r\n").await;
}

#[tokio::test]
async fn a_read_waits_for_an_earlier_write_of_its_key_and_all_after_it_wait_too() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("SET k 1\r\nGET other\r\nMGET x k\r\nGET y\r\n").await;
    let batch = server.next().await;
    assert_eq!(batch.len(), 2, "{batch:?}");
    // Only the answer to the write lets the read through; that of the other read does not.
    server.answer(batch[1].0, Reply::Nil);
    server.answer(batch[0].0, Reply::Ok);
    let reads = server.next().await;
    assert_eq!(command(&reads[0].1), &Command::MGet { keys: vec!["x".into(), "k".into()] });
    assert_eq!(command(&reads[1].1), &Command::Get { key: "y".into() });
    server.answer(reads[1].0, Reply::Nil);
    server.answer(reads[0].0, Reply::Array(vec![Reply::Nil, Reply::Bytes("1".into())]));
    client.expect("+OK\r\n$-1\r\n*2\r\n$-1\r\n$1\r\n1\r\n$-1\r\n").await;
}

#[tokio::test]
async fn a_write_waits_for_earlier_reads_of_its_key_but_not_for_earlier_writes() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET k\r\nGET k\r\nSET k 2\r\nSET k 3\r\n").await;
    let reads = server.next().await;
    assert_eq!(reads.len(), 2, "{reads:?}");
    server.answer(reads[1].0, Reply::Nil);
    client.send("PING\r\n").await;
    server.answer(reads[0].0, Reply::Nil);
    let writes = server.next().await;
    assert_eq!(writes.len(), 2, "{writes:?}");
    server.answer(writes[0].0, Reply::Ok);
    server.answer(writes[1].0, Reply::Ok);
    client.expect("$-1\r\n$-1\r\n+OK\r\n+OK\r\n+PONG\r\n").await;
}

#[tokio::test]
async fn requests_of_sessions_hold_nothing_and_are_not_held() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("SET k 1\r\nONCE 7 1 1 GET k\r\nONCE 7 2 1 SET k 2\r\nSESSION OPEN\r\n").await;
    let batch = server.next().await;
    let (session, ack) = (SessionId(7), Seq(1));
    assert_eq!(
        batch.iter().skip(1).map(|(_, request)| request.clone()).collect::<Vec<_>>(),
        [
            Request::Once { session, seq: Seq(1), ack, command: Command::Get { key: "k".into() } },
            Request::Once {
                session,
                seq: Seq(2),
                ack,
                command: Command::Set {
                    key: "k".into(),
                    value: "2".into(),
                    condition: Default::default(),
                    return_old: false
                },
            },
            Request::OpenSession,
        ]
    );
    server.gateway.answer(vec![(batch[3].0, Answer::Opened(SessionId(1 << 16)))]);
    server.answer(batch[2].0, Reply::Ok);
    server.answer(batch[1].0, Reply::Nil);
    server.answer(batch[0].0, Reply::Ok);
    client.expect("+OK\r\n$-1\r\n+OK\r\n:65536\r\n").await;
}

#[tokio::test]
async fn a_digest_is_of_the_state_after_all_earlier_requests() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("SET k 1\r\nDEBUG DIGEST\r\nGET k\r\n").await;
    let batch = server.next().await;
    assert_eq!(batch.len(), 1, "{batch:?}");
    *server.digest.lock().expect("no panic") = "after";
    server.answer(batch[0].0, Reply::Ok);
    client.expect("+OK\r\n+after\r\n").await;
    let batch = server.next().await;
    server.answer(batch[0].0, Reply::Nil);
    client.expect("$-1\r\n").await;
}

/// A request of the tests below, and what it means.
fn random_request(random: &mut Random) -> (Vec<String>, Command) {
    let key = format!("key{}", random.below(4));
    let other = format!("key{}", random.below(4));
    let value = format!("value{}", random.next());
    let (k, o, v) = (Bytes::from(key.clone()), Bytes::from(other.clone()), Bytes::from(value.clone()));
    let request = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect();
    match random.below(8) {
        0 | 1 => (request(&["SET", &key, &value]), set(k, v)),
        2 => (request(&["APPEND", &key, "+"]), Command::Append { key: k, value: "+".into() }),
        3 => (request(&["DEL", &key, &other]), Command::Del { keys: vec![k, o] }),
        4 => (request(&["MGET", &key, &other]), Command::MGet { keys: vec![k, o] }),
        5 => (
            request(&["BATCH", "2", "2", "GET", &key, "3", "SET", &other, &value]),
            Command::Batch { commands: vec![Command::Get { key: k }, set(o, v)] },
        ),
        _ => (request(&["GET", &key]), Command::Get { key: k }),
    }
}

fn set(key: Bytes, value: Bytes) -> Command {
    Command::Set { key, value, condition: Default::default(), return_old: false }
}

fn encode(reply: &Reply, out: &mut BytesMut) {
    fn value(reply: &Reply) -> Value {
        match reply {
            Reply::Ok => Value::OK,
            Reply::Nil => Value::Null,
            Reply::Integer(number) => Value::Integer(*number),
            Reply::Bytes(bytes) => Value::Bulk(bytes.clone()),
            Reply::Array(replies) => Value::Array(replies.iter().map(value).collect()),
            Reply::Error(_) => unreachable!("none of these commands fails"),
        }
    }
    resp::encode(&value(reply), Protocol::Resp2, out);
}

/// Sends the requests in pieces of any size while it reads, and compares all replies with those of a model that executes one
/// request after the other.
async fn compare_with_model(client: Client, requests: usize, random: &mut Random) {
    let mut model = BTreeMap::new();
    let (mut sent, mut expected) = (Vec::new(), BytesMut::new());
    for _ in 0..requests {
        let (words, command) = random_request(random);
        sent.extend(frame(&words));
        encode(&execute(&mut model, &command), &mut expected);
    }
    let (mut reader, mut writer) = client.stream.into_split();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    while !sent.is_empty() {
        let rest = sent.split_off(sent.len().min(1 + random.below(4000)));
        pieces.push(std::mem::replace(&mut sent, rest));
    }
    let sending = tokio::spawn(async move {
        for piece in pieces {
            writer.write_all(&piece).await.expect("the server reads");
        }
        writer
    });
    let mut got = vec![0; expected.len()];
    tokio::time::timeout(PATIENCE, reader.read_exact(&mut got)).await.expect("in time").expect("all replies");
    let same = got.iter().zip(&expected).take_while(|(got, expected)| got == expected).count();
    assert!(
        same == expected.len(),
        "reply differs: {}",
        got[same..].iter().take(80).copied().collect::<Vec<_>>().escape_ascii()
    );
    drop(sending.await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_pipeline_is_answered_as_if_executed_one_by_one() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let server = Server::start().await;
        server.run_core(Random(seed));
        compare_with_model(server.connect().await, 500, &mut Random(seed + 1000)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_of_ten_thousand_is_answered_in_order() {
    let server = Server::start().await;
    server.run_core(Random(1));
    compare_with_model(server.connect().await, 10_000, &mut Random(2)).await;
}

#[tokio::test]
async fn connections_on_several_network_threads_are_all_answered() {
    let (sender, inbox) = Inbox::new(1024);
    let network = Network::start(NonZero::new(3).expect("it is"), &sender).expect("there are threads");
    let server = Server::on(network.threads().to_vec(), settings(), inbox).await;
    server.run_core(Random(1));
    let mut clients = Vec::new();
    for _ in 0..7 {
        clients.push(server.connect().await);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(&["SET", &format!("k{number}"), "v"], "+OK\r\n").await;
    }
    drop(clients);
    server.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, server.serving).await.expect("in time").expect("no panic");
    tokio::task::spawn_blocking(|| network.stop()).await.expect("all threads end");
}
