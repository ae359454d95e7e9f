//! Program order: what one connection sends takes effect as if one request were executed after the other, key by key.
//!
//! The core executes plain writes in the order of their submission, but reads go another way (ReadIndex) and may overtake them
//! or be overtaken. So a read waits here for earlier writes of its keys, and a write for earlier reads of its keys. Requests of
//! sessions ask for no order and are not looked at.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use bytes::Bytes;
use pontoon_kv::Command;
use pontoon_replica::Request;

/// The keys that requests in flight touch, by their hashes: two keys with one hash wait for one another without need, which does
/// no harm.
#[derive(Debug, Default)]
pub(crate) struct Order {
    hasher: RandomState,
    touched: HashMap<u64, Touches>,
}

#[derive(Debug, Default)]
struct Touches {
    reads: u32,
    writes: u32,
}

/// What a request does to which keys; nothing if it asks for no order.
#[derive(Debug, Default)]
pub(crate) struct Access {
    write: bool,
    keys: Keys,
}

#[derive(Debug, Default)]
enum Keys {
    #[default]
    None,
    One(u64),
    Many(Box<[u64]>),
}

impl Keys {
    fn as_slice(&self) -> &[u64] {
        match self {
            Keys::None => &[],
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Many(keys) => keys,
        }
    }
}

impl Order {
    /// What this request touches.
    pub(crate) fn access(&self, request: &Request) -> Access {
        let Request::Plain(command) = request else { return Access::default() };
        let keys = match command {
            Command::Get { key }
            | Command::StrLen { key }
            | Command::Set { key, .. }
            | Command::Append { key, .. }
            | Command::IncrBy { key, .. } => Keys::One(self.hasher.hash_one(key)),
            _ => {
                let mut keys = Vec::new();
                self.collect(command, &mut keys);
                Keys::Many(keys.into())
            }
        };
        Access { write: !command.is_read(), keys }
    }

    /// Whether it must wait for a request in flight.
    pub(crate) fn conflicts(&self, access: &Access) -> bool {
        access.keys.as_slice().iter().any(|key| {
            self.touched.get(key).is_some_and(|touches| match access.write {
                true => touches.reads > 0,
                false => touches.writes > 0,
            })
        })
    }

    /// A request with this access is in flight now.
    pub(crate) fn enter(&mut self, access: &Access) {
        for &key in access.keys.as_slice() {
            *self.touched.entry(key).or_default().count(access.write) += 1;
        }
    }

    /// It was answered.
    pub(crate) fn leave(&mut self, access: &Access) {
        for &key in access.keys.as_slice() {
            let Entry::Occupied(mut entry) = self.touched.entry(key) else {
                panic!("a request that leaves has entered");
            };
            *entry.get_mut().count(access.write) -= 1;
            if entry.get().reads == 0 && entry.get().writes == 0 {
                entry.remove();
            }
        }
    }

    fn collect(&self, command: &Command, hashes: &mut Vec<u64>) {
        let mut add = |key: &Bytes| hashes.push(self.hasher.hash_one(key));
        match command {
            Command::Get { key }
            | Command::StrLen { key }
            | Command::Set { key, .. }
            | Command::Append { key, .. }
            | Command::IncrBy { key, .. } => add(key),
            Command::Exists { keys } | Command::MGet { keys } | Command::Del { keys } => {
                keys.iter().for_each(add)
            }
            Command::MSet { pairs } => pairs.iter().for_each(|(key, _)| add(key)),
            Command::Batch { commands } => commands.iter().for_each(|command| self.collect(command, hashes)),
        }
    }
}

impl Touches {
    fn count(&mut self, write: bool) -> &mut u32 {
        if write { &mut self.writes } else { &mut self.reads }
    }
}
