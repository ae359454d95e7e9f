//! One TCP connection to one server.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use pontoon_wire::resp::{self, ReplyLimits, ReplyParser, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};
use tracing::debug;

use crate::{ClerkOptions, machine::ConnectionId};

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is open and authenticated.
    Connected,
    /// The server refused the password; then comes `Lost`.
    Refused(String),
    /// Replies, in the order of the requests.
    Replies(Vec<Value>),
    /// It could not be opened, or has ended. The last event.
    Lost(String),
}

/// Room for what is read at once.
const READ_BYTES: usize = 64 << 10;

/// Connects, and moves packets and replies until either side ends it.
pub(crate) async fn run(
    options: Arc<ClerkOptions>,
    server: usize,
    connection: ConnectionId,
    packets: mpsc::UnboundedReceiver<Bytes>,
    events: mpsc::Sender<(ConnectionId, Event)>,
) {
    let teller = Teller { connection, events };
    let why = match open(&options, server).await {
        Err(error) => error,
        Ok((mut reader, mut writer)) => match authenticate(&options, &mut reader, &mut writer).await {
            Err(error) => error,
            Ok(Some(refusal)) => {
                teller.tell(Event::Refused(refusal.clone())).await;
                io::Error::other(refusal)
            }
            Ok(None) => {
                teller.tell(Event::Connected).await;
                tokio::select! {
                    error = write(packets, &mut writer) => error,
                    error = read(&mut reader, &teller) => error,
                }
            }
        },
    };
    debug!(server = options.servers[server], %why, "connection ended");
    teller.tell(Event::Lost(why.to_string())).await;
}

struct Teller {
    connection: ConnectionId,
    events: mpsc::Sender<(ConnectionId, Event)>,
}

impl Teller {
    async fn tell(&self, event: Event) {
        // The driver is gone only when nobody wants to know.
        let _ = self.events.send((self.connection, event)).await;
    }
}

struct Reader {
    socket: OwnedReadHalf,
    parser: ReplyParser,
    buffer: BytesMut,
}

async fn open(options: &ClerkOptions, server: usize) -> io::Result<(Reader, OwnedWriteHalf)> {
    let socket = TcpStream::connect(&options.servers[server]).await?;
    // A lone request must not wait for company; those of a turn are written as one packet anyway.
    socket.set_nodelay(true)?;
    let (socket, writer) = socket.into_split();
    let limits = ReplyLimits {
        bulk_bytes_max: options.reply_bytes_max,
        reply_bytes_max: options.reply_bytes_max,
        ..ReplyLimits::default()
    };
    Ok((Reader { socket, parser: ReplyParser::new(limits), buffer: BytesMut::new() }, writer))
}

/// Presents the password, if there is one. `Some`: the server's refusal.
async fn authenticate(
    options: &ClerkOptions,
    reader: &mut Reader,
    writer: &mut OwnedWriteHalf,
) -> io::Result<Option<String>> {
    let Some(password) = &options.password else { return Ok(None) };
    let mut request = BytesMut::new();
    resp::encode_request(&["AUTH", password], &mut request);
    writer.write_all(&request).await?;
    match reader.next().await? {
        Value::Error(why) => Ok(Some(why.into_owned())),
        _ => Ok(None),
    }
}

async fn write(mut packets: mpsc::UnboundedReceiver<Bytes>, writer: &mut OwnedWriteHalf) -> io::Error {
    while let Some(packet) = packets.recv().await {
        if let Err(error) = writer.write_all(&packet).await {
            return error;
        }
    }
    io::Error::other("the clerk has closed it")
}

async fn read(reader: &mut Reader, teller: &Teller) -> io::Error {
    loop {
        let first = match reader.next().await {
            Ok(value) => value,
            Err(error) => return error,
        };
        let mut values = vec![first];
        let end = loop {
            match reader.parsed() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        teller.tell(Event::Replies(values)).await;
        if let Some(error) = end {
            return error;
        }
    }
}

impl Reader {
    /// The next reply, however long it takes.
    async fn next(&mut self) -> io::Result<Value> {
        loop {
            if let Some(value) = self.parsed()? {
                return Ok(value);
            }
            self.buffer.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }

    /// The next reply, if it has come.
    fn parsed(&mut self) -> io::Result<Option<Value>> {
        self.parser.parse(&mut self.buffer).map_err(io::Error::other)
    }
}
