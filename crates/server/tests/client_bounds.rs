//! What a connection may take of the server: requests in flight, memory, time, connections.

mod client_support;

use bytes::Bytes;
use client_support::{PATIENCE, Server, frame, settings};
use pontoon_kv::Reply;
use pontoon_replica::{Answer, NotExecuted};
use pontoon_server::client::{BindError, Listener};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn at_most_1024_requests_of_a_connection_are_in_flight() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(frame(&["INCR", "k"]).repeat(3000)).await;
    let mut answered = 0;
    while answered < 3000 {
        let count = (3000 - answered).min(1024);
        let requests = server.next_requests(count).await;
        server.assert_nothing_submitted();
        for (ticket, _) in requests.iter().rev() {
            server.answer(*ticket, Reply::Integer(0));
        }
        client.expect(":0\r\n".repeat(count)).await;
        answered += count;
    }
}

#[tokio::test]
async fn requests_in_flight_are_bounded_in_bytes() {
    let server = Server::start().await;
    let client = server.connect().await;
    let key = vec![b'x'; 60 << 10];
    let (_reader, mut writer) = client.stream.into_split();
    let sending = tokio::spawn(async move {
        let request = frame(&[&b"STRLEN"[..], &key]);
        for _ in 0..600 {
            writer.write_all(&request).await.expect("the server reads in the end");
        }
        writer
    });
    // 32 MiB are exceeded by the last of these.
    let requests = server.next_requests(547).await;
    server.assert_nothing_submitted();
    for (ticket, _) in requests {
        server.answer(ticket, Reply::Integer(0));
    }
    server.next_requests(53).await;
    drop(sending.await.expect("no panic"));
}

/// Sixteen connections with 32 MiB each once kept the disks busy for longer than a request may wait: all ended as unknown, for as
/// long as the clients went on.
#[tokio::test]
async fn large_writes_of_all_connections_together_are_bounded_in_bytes_and_others_are_not_held_up() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.connect().await);
        clients.last_mut().expect("there is one").send(large_write()).await;
    }
    read_by_now(&server, 5).await;
    // 32 MiB hold two of them.
    let mut waiting = server.next_requests(2).await;
    let mut other = server.connect().await;
    for small in [frame(&["SET", "k", "small"]), frame(&["GET", "k"])] {
        other.send(small).await;
        let small = server.next_requests(1).await;
        server.answer(small[0].0, Reply::Ok);
        other.expect("+OK\r\n").await;
    }
    server.assert_nothing_submitted();
    for _ in 0..3 {
        server.answer(waiting.remove(0).0, Reply::Ok);
        waiting.extend(server.next_requests(1).await);
        server.assert_nothing_submitted();
    }
    for (ticket, _) in waiting {
        server.answer(ticket, Reply::Ok);
    }
    for mut client in clients {
        client.expect("+OK\r\n").await;
    }
}

#[tokio::test]
async fn a_large_write_that_finds_no_room_in_time_was_not_executed_and_the_connection_lives() {
    let mut settings = settings();
    settings.request_timeout = std::time::Duration::from_millis(100);
    let server = Server::with(settings, 16).await;
    let _full = fill_the_room(&server).await;
    let mut late = server.connect().await;
    late.send([large_write(), frame(&["PING"])].concat()).await;
    let error = late.line().await;
    assert!(error.starts_with("-BUSY surely not executed"), "{error}");
    late.expect("+PONG\r\n").await;
    server.assert_nothing_submitted();
}

/// Else a client that gives up and sends again would have more and more under way.
#[tokio::test]
async fn what_a_client_that_has_left_asked_for_keeps_its_place_until_it_is_answered() {
    let mut settings = settings();
    settings.request_timeout = std::time::Duration::from_millis(100);
    let server = Server::with(settings, 16).await;
    let [(first, ticket), (second, _)] = fill_the_room(&server).await;
    for gone in [first, second] {
        socket2::SockRef::from(&gone.stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket's option");
    }
    let mut late = server.connect().await;
    loop {
        late.send(frame(&["INFO", "clients"])).await;
        if late.text().await.contains("connected_clients:1\r\n") {
            break;
        }
    }
    late.send(large_write()).await;
    let error = late.line().await;
    assert!(error.starts_with("-BUSY"), "{error}");
    server.answer(ticket, Reply::Ok);
    late.send(large_write()).await;
    let ticket = server.next_requests(1).await[0].0;
    server.answer(ticket, Reply::Ok);
    late.expect("+OK\r\n").await;
}

#[tokio::test]
async fn a_client_that_takes_no_replies_does_not_keep_a_place_from_others() {
    let server = Server::start().await;
    let [(_first, ticket), _second] = fill_the_room(&server).await;
    let mut client = server.connect().await;
    client.send([frame(&["GET", "other"]).repeat(20), large_write()].concat()).await;
    let value = Bytes::from(vec![b'x'; 4 << 20]);
    for (read, _) in server.next_requests(20).await {
        server.answer(read, Reply::Bytes(value.clone()));
    }
    // Its replies are more than the sockets' buffers and 32 MiB hold.
    read_by_now(&server, 23).await;
    server.assert_nothing_submitted();
    server.answer(ticket, Reply::Ok);
    server.next_requests(1).await;
}

#[tokio::test]
async fn a_large_write_that_waits_for_room_is_refused_when_the_server_stops() {
    let server = Server::start().await;
    let full = fill_the_room(&server).await;
    let mut late = server.connect().await;
    late.send(large_write()).await;
    read_by_now(&server, 3).await;
    server.stop.send(true).expect("the server runs");
    let error = late.line().await;
    assert!(error.starts_with("-STOPPING not executed"), "{error}");
    for (mut client, ticket) in full {
        server.answer(ticket, Reply::Ok);
        client.expect("+OK\r\n").await;
    }
}

/// Waits until the server has read so many requests.
async fn read_by_now(server: &Server, requests: usize) {
    let mut observer = server.connect().await;
    for observed in 0.. {
        observer.send(frame(&["INFO", "stats"])).await;
        let read = format!("total_commands_processed:{}\r\n", requests + observed);
        if observer.text().await.contains(&read) {
            return;
        }
    }
}

/// More than a third of the room.
fn large_write() -> Vec<u8> {
    frame(&[&b"SET"[..], b"k", &vec![b'x'; 12 << 20]])
}

/// Two clients whose writes leave no room for a third.
async fn fill_the_room(server: &Server) -> [(client_support::Client, pontoon_replica::Ticket); 2] {
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(large_write()).await;
        clients.push((client, server.next_requests(1).await[0].0));
    }
    clients.try_into().ok().expect("there are two")
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_either_and_closed_after_a_minute() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    client.send(frame(&["GET", "k"]).repeat(500)).await;
    // Replies are bounded by 32 MiB; what the sockets' buffers hold comes on top.
    let mut submitted = 0;
    let mut idle = 0;
    while idle < 20 {
        let Ok(event) = server.inbox.try_recv() else {
            idle += 1;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        idle = 0;
        let pontoon_server::inbox::Event::Requests(requests) = event else { panic!("{event:?}") };
        submitted += requests.len();
        for (ticket, _) in requests {
            server.answer(ticket, Reply::Bytes(value.clone()));
        }
    }
    assert!(submitted < 100, "{submitted} MiB are more than the sockets' buffers and 32 MiB hold");
    client.send(frame(&["PING"])).await;
    client.send(frame(&["SET", "k", "v"])).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::time::resume();
    let mut rest = Vec::new();
    let read =
        tokio::time::timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut rest))
            .await;
    assert!(read.is_ok(), "the server closes the connection");
    assert!(rest.len() < 100 << 20, "it did not wait for the client to take all: {}", rest.len());
    server.assert_nothing_submitted();
}

#[tokio::test]
async fn what_the_core_does_not_take_was_not_executed_and_the_connection_lives() {
    let server = Server::with(settings(), 1).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.send(frame(&["SET", "k", "1"])).await;
    while server.inbox.is_empty() {
        tokio::task::yield_now().await;
    }
    second.send([frame(&["SET", "k", "2"]), frame(&["PING"])].concat()).await;
    let error = second.line().await;
    assert!(error.starts_with("-BUSY surely not executed"), "{error}");
    second.expect("+PONG\r\n").await;
    let batch = server.next().await;
    server.answer(batch[0].0, Reply::Ok);
    first.expect("+OK\r\n").await;
    second.send(frame(&["GET", "k"])).await;
    let batch = server.next().await;
    server.gateway.answer(vec![(batch[0].0, Answer::NotExecuted(NotExecuted::NotReady))]);
    let error = second.line().await;
    assert!(error.starts_with("-NOTREADY not executed"), "{error}");
}

#[tokio::test]
async fn garbage_gets_redis_error_and_the_connection_is_closed_after_earlier_replies() {
    let server = Server::start().await;
    for (garbage, error) in [
        ("*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        ("*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'\r\n"),
        ("*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("SET \"a b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let mut client = server.connect().await;
        client.send(["SET k 1\r\n", garbage].concat()).await;
        let batch = server.next().await;
        server.answer(batch[0].0, Reply::Ok);
        client.expect(["+OK\r\n", error].concat()).await;
        client.expect_closed().await;
    }
    server.connect().await.ask(&["PING"], "+PONG\r\n").await;
}

#[tokio::test]
async fn a_request_over_a_limit_names_it_and_the_connection_lives() {
    let mut settings = settings();
    settings.cluster.limits.key_bytes_max = 10;
    settings.cluster.limits.value_bytes_max = 1000;
    let server = Server::with(settings, 16).await;
    let mut client = server.connect().await;
    for (request, named) in [
        (frame(&["SET", "k", &"x".repeat(1001)]), "value-bytes-max (1000)"),
        (frame(&["SET", "k", &"x".repeat(1 << 20)]), "value-bytes-max (1000)"),
        (frame(&["GET", "elevenbytes"]), "key-bytes-max (10)"),
        (frame(&["ONCE", "1", "1", "1", "GET", "elevenbytes"]), "key-bytes-max (10)"),
        (frame(&["BATCH", "1", "2", "GET", "elevenbytes"]), "key-bytes-max (10)"),
    ] {
        client.send([request, frame(&["PING"])].concat()).await;
        let error = client.line().await;
        assert!(error.starts_with("-ERR not executed; ") && error.contains(named), "{error}");
        client.expect("+PONG\r\n").await;
    }
    server.assert_nothing_submitted();
}

#[tokio::test]
async fn a_half_closed_client_gets_all_replies() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("SET k 1\r\nGET k\r\nPING\r\n*1\r\n$4\r\nPI").await;
    client.stream.shutdown().await.expect("half of it can be closed");
    let batch = server.next().await;
    server.answer(batch[0].0, Reply::Ok);
    let batch = server.next().await;
    server.answer(batch[0].0, Reply::Bytes("1".into()));
    client.expect("+OK\r\n$1\r\n1\r\n+PONG\r\n").await;
    client.expect_closed().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let mut settings = settings();
    settings.connections_max = 2;
    let server = Server::with(settings, 16).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.ask(&["PING"], "+PONG\r\n").await;
    second.ask(&["PING"], "+PONG\r\n").await;
    let mut third = server.connect().await;
    third.expect("-ERR max number of clients reached\r\n").await;
    third.expect_closed().await;
    first.ask(&["QUIT"], "+OK\r\n").await;
    first.expect_closed().await;
    // Its place is free as soon as its task has ended, which nobody outside sees.
    loop {
        let mut next = server.connect().await;
        if next.stream.write_all(&frame(&["PING"])).await.is_ok() && next.line().await == "+PONG" {
            break;
        }
    }
}

#[tokio::test]
async fn a_stopping_server_answers_what_is_in_flight_and_refuses_the_rest() {
    let server = Server::start().await;
    let (mut idle, mut client) = (server.connect().await, server.connect().await);
    idle.ask(&["PING"], "+PONG\r\n").await;
    client.send("SET k 1\r\nGET k\r\nPING\r\n").await;
    let batch = server.next().await;
    server.stop.send(true).expect("the server runs");
    idle.expect_closed().await;
    server.answer(batch[0].0, Reply::Ok);
    client.expect("+OK\r\n").await;
    let error = client.line().await;
    assert!(error.starts_with("-STOPPING not executed"), "{error}");
    client.expect("+PONG\r\n").await;
    client.expect_closed().await;
    tokio::time::timeout(PATIENCE, server.serving).await.expect("in time").expect("no panic");
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_port_that_cannot_be_bound_is_named_with_what_to_do() {
    let server = Server::start().await;
    let mut settings = settings();
    settings.listen = server.address.to_string();
    let error = Listener::bind(&settings).await.expect_err("the port is taken");
    assert!(matches!(error, BindError::Taken { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another program: stop that, or let clients connect elsewhere with --listen",
            server.address
        )
    );
    for listen in ["nonsense", "127.0.0.1", "127.0.0.1:70000", "192.0.2.1:7001"] {
        settings.listen = listen.to_string();
        let error = Listener::bind(&settings).await.expect_err("no address of this machine");
        assert!(error.to_string().contains(&format!("--listen {listen} is not an address")), "{error}");
    }
}
