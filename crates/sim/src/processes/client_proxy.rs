//! Between clients and a server. On an unreliable network (labrpc's figures) a request is late, and it or its reply may get lost.
//! What gets lost on a TCP connection shows as a broken connection: it breaks before the request is passed on, or after its
//! reply was swallowed.

use std::{io, sync::Arc};

use bytes::BytesMut;
use pontoon_wire::resp::{
    Parsed, Protocol, ReplyLimits, ReplyParser, RequestLimits, RequestParser, encode, encode_request,
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

use super::{
    links::{Fate, Links},
    proxy::{Proxy, carry, connect, read},
};

/// A way to one server that can be cut.
#[derive(Debug)]
pub(super) struct ClientProxy {
    proxy: Proxy,
    up: watch::Sender<bool>,
}

impl ClientProxy {
    /// Listens in front of the client port of a server.
    pub(super) async fn start(port: u16, links: Arc<Links>) -> io::Result<ClientProxy> {
        let up = watch::Sender::new(true);
        let watched = up.clone();
        let proxy =
            Proxy::start(move |stream| serve(stream, port, watched.subscribe(), links.clone())).await?;
        Ok(ClientProxy { proxy, up })
    }

    /// Where clients connect, `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.proxy.address
    }

    /// Closes its connections and refuses new ones, or takes them again.
    pub(super) fn set(&self, up: bool) {
        self.up.send_replace(up);
    }
}

async fn serve(
    stream: TcpStream,
    port: u16,
    mut up: watch::Receiver<bool>,
    links: Arc<Links>,
) -> io::Result<()> {
    if !*up.borrow_and_update() {
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = connect(port).await?.into_split();
    let both = async {
        if links.unreliable {
            tokio::try_join!(
                requests(&links, from_client, to_server),
                replies(&links, from_server, to_client)
            )
        } else {
            tokio::try_join!(carry(from_client, to_server), carry(from_server, to_client))
        }
    };
    tokio::select! {
        ended = both => ended.map(drop),
        _ = up.wait_for(|up| !up) => Ok(()),
    }
}

/// One after the other, so that replies keep their order.
async fn requests(links: &Links, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut parser = RequestParser::new(RequestLimits::default());
    let (mut said, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Some(parsed) = parser.parse(&mut said).map_err(io::Error::other)? {
            let Parsed::Request(words) = parsed else {
                return Err(io::Error::other("a request without end"));
            };
            let Fate::Late(after) = links.request() else {
                return Err(io::ErrorKind::ConnectionReset.into());
            };
            sleep(after).await;
            encode_request(&words, &mut out);
            to.write_all_buf(&mut out).await?;
        }
        read(&mut from, &mut said).await?;
    }
}

async fn replies(links: &Links, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut parser = ReplyParser::new(ReplyLimits::default());
    let (mut said, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Some(value) = parser.parse(&mut said).map_err(io::Error::other)? {
            let Fate::Late(_) = links.reply() else { return Err(io::ErrorKind::ConnectionReset.into()) };
            encode(&value, Protocol::Resp2, &mut out);
            to.write_all_buf(&mut out).await?;
        }
        read(&mut from, &mut said).await?;
    }
}
