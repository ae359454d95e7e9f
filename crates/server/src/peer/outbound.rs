//! The task that sends the core's messages to one member.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use pontoon_kv::NodeId;
use pontoon_wire::{handshake::Purpose, peer::encode_message};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Shared,
    connection::{self, ConnectError},
};

const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// About this many bytes are encoded and written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Keeps a connection to the member until the transport stops.
pub(super) async fn run(shared: Arc<Shared>, node: NodeId) {
    tokio::select! {
        () = keep_connected(&shared, node) => {}
        () = shared.stopped() => {}
    }
    shared.members[&node].queue.set_connected(false);
}

async fn keep_connected(shared: &Shared, node: NodeId) {
    let mut back_off = BACK_OFF_MIN;
    let mut complained = String::new();
    loop {
        match connection::open(shared, node, Purpose::Messages).await {
            Ok((socket, _)) => {
                tracing::info!(peer = node.0, "connected to member");
                back_off = BACK_OFF_MIN;
                complained.clear();
                shared.members[&node].queue.set_connected(true);
                let ended = send_all(shared, node, socket).await;
                shared.members[&node].queue.set_connected(false);
                shared.report_unreachable(node);
                tracing::info!(peer = node.0, reason = %ended, "lost connection to member");
            }
            Err(error) => {
                shared.report_unreachable(node);
                let text = error.to_string();
                // Once per reason: a member that is down for a night must not fill the log.
                if matches!(error, ConnectError::Refused(_)) && text != complained {
                    tracing::warn!(peer = node.0, reason = %text, "cannot talk to member");
                    complained = text;
                }
            }
        }
        tokio::time::sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Sends until the connection fails.
async fn send_all(shared: &Shared, node: NodeId, socket: TcpStream) -> std::io::Error {
    let (mut reader, mut writer) = socket.into_split();
    let write = async {
        let mut buffer = BytesMut::new();
        loop {
            for message in shared.members[&node].queue.take(WRITE_BYTES).await {
                encode_message(shared.group, &message, &mut buffer);
            }
            if let Err(error) = writer.write_all_buf(&mut buffer).await {
                return error;
            }
        }
    };
    // Nothing is said on this way back; that it ends is all there is to hear.
    let hear_end = async {
        let mut byte = [0];
        match reader.read(&mut byte).await {
            Err(error) => error,
            Ok(_) => std::io::Error::other("the member closed it"),
        }
    };
    tokio::select! {
        error = write => error,
        error = hear_end => error,
    }
}
