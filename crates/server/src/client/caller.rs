//! Who is at the other end of a connection.

use std::net::SocketAddr;

use bytes::Bytes;
use pontoon_wire::resp::Protocol;
use subtle::ConstantTimeEq;

/// What a connection remembers of its client from one request to the next.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Unique on this server (`CLIENT ID`).
    pub(crate) id: u32,
    pub(crate) address: SocketAddr,
    /// `CLIENT SETNAME`; empty: none.
    pub(crate) name: Bytes,
    /// `CLIENT SETINFO LIB-NAME`.
    pub(crate) library: Bytes,
    /// `CLIENT SETINFO LIB-VER`.
    pub(crate) library_version: Bytes,
    pub(crate) protocol: Protocol,
    /// Whether it has presented the password, if there is one.
    pub(crate) authenticated: bool,
    /// It has said `QUIT`: what it sends after that is not read.
    pub(crate) leaving: bool,
}

/// The user name or the password is not the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongPassword;

impl Caller {
    /// A client that has just connected.
    pub(crate) fn new(id: u32, address: SocketAddr, password: Option<&str>) -> Caller {
        Caller {
            id,
            address,
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            protocol: Protocol::Resp2,
            authenticated: password.is_none(),
            leaving: false,
        }
    }

    /// `RESET`: as if it had just connected.
    pub(crate) fn reset(&mut self, password: Option<&str>) {
        *self = Caller::new(self.id, self.address, password);
    }

    /// There is one user, `default`. The time that this takes says nothing of the password but its length.
    pub(crate) fn authenticate(
        &mut self,
        user: &[u8],
        presented: &[u8],
        password: Option<&str>,
    ) -> Result<(), WrongPassword> {
        let right = password.is_none_or(|password| password.as_bytes().ct_eq(presented).into());
        if user != b"default" || !right {
            return Err(WrongPassword);
        }
        self.authenticated = true;
        Ok(())
    }

    /// One line as in Redis's `CLIENT INFO`.
    pub(crate) fn line(&self) -> String {
        let resp = match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} name={} db=0 user=default resp={resp} lib-name={} lib-ver={}\n",
            self.id,
            self.address,
            text(&self.name),
            text(&self.library),
            text(&self.library_version),
        )
    }
}
