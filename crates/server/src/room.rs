//! Room for large writes.
//!
//! What one connection has in flight is bounded in bytes. But what many have together may keep the disks busy for longer than any
//! request may wait, and as long as clients go on like that, all would end as unknown: written, and nobody told. So of large writes
//! the core has no more than a bounded number of bytes. Further ones wait outside in the order in which they began to, and their connections
//! with them. Their time in the core does not run yet; who waits for as long as that outside is surely not executed.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pontoon_replica::{Request, Ticket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A write of fewer bytes needs no room: 1024 of a connection are little.
const LARGE_BYTES: u64 = 4 << 10;

/// Large writes that the core has not answered, in bytes. Of three servers together, 96 MiB are some two seconds' work of
/// disks that write 50 MiB/s of values.
pub(crate) const ROOM_BYTES: u32 = 32 << 20;

/// Shared by all connections.
pub(crate) struct Room {
    free: Arc<Semaphore>,
    bytes: u32,
    patience: Duration,
}

/// A large write's part of the room. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Waits for a place. None: there was none in time.
pub(crate) type PlaceFuture = Pin<Box<dyn Future<Output = Option<Place>> + Send>>;

impl Room {
    pub(crate) fn new(bytes: u32, patience: Duration) -> Room {
        Room { free: Arc::new(Semaphore::new(bytes as usize)), bytes, patience }
    }

    /// For how many bytes a request needs a place, if for any.
    pub(crate) fn needed(request: &Request) -> Option<u64> {
        let write = request.command().filter(|command| !command.is_read())?;
        Some(write.bytes()).filter(|bytes| *bytes >= LARGE_BYTES)
    }

    /// A place for so many bytes (for all the room, if they are more), if it is free now and nobody waits for one.
    pub(crate) fn try_enter(&self, bytes: u64) -> Option<Place> {
        let permit = self.free.clone().try_acquire_many_owned(self.part(bytes)).ok()?;
        Some(Place { _permit: permit })
    }

    /// The same as soon as it is free and all who wait already have theirs.
    pub(crate) fn enter(&self, bytes: u64) -> PlaceFuture {
        let permit = self.free.clone().acquire_many_owned(self.part(bytes));
        let permit = tokio::time::timeout(self.patience, permit);
        Box::pin(async { Some(Place { _permit: permit.await.ok()?.ok()? }) })
    }

    fn part(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).map_or(self.bytes, |bytes| bytes.min(self.bytes))
    }
}

/// The places of what the core has not answered. They are kept here and not by connections: what a client asked for that has left is
/// written all the same.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<HashMap<Ticket, Place>>,
    count: AtomicUsize,
}

impl Places {
    /// The core is about to get this.
    pub(crate) fn keep(&self, ticket: Ticket, place: Place) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.taken.lock().expect("no panic holds this lock").insert(ticket, place);
    }

    /// These are answered.
    pub(crate) fn give_back(&self, tickets: impl Iterator<Item = Ticket>) {
        // Who answers has got the request after its place was counted.
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut taken = self.taken.lock().expect("no panic holds this lock");
        for ticket in tickets {
            if taken.remove(&ticket).is_some() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pontoon_kv::Command;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn is_waiting(place: &mut PlaceFuture) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        place.as_mut().poll(&mut context).is_pending()
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_in_the_order_of_waiting_as_far_as_there_is_room() {
        let room = Room::new(100, PATIENCE);
        let first = room.try_enter(60).expect("there is room");
        let mut second = room.enter(50);
        let mut third = room.enter(10);
        assert!(is_waiting(&mut second) && is_waiting(&mut third), "the small one does not overtake");
        assert!(room.try_enter(10).is_none(), "nor does one that cannot wait");
        drop(first);
        let second = second.await.expect("there is room now");
        let third = third.await.expect("there is room now");
        let mut fourth = room.enter(50);
        assert!(is_waiting(&mut fourth));
        drop((second, third));
        assert!(fourth.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_larger_than_the_room_has_all_of_it() {
        let room = Room::new(100, PATIENCE);
        let first = room.enter(u64::MAX).await.expect("there is room");
        let mut second = room.enter(1);
        assert!(is_waiting(&mut second));
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_none_in_time_gives_up_its_turn() {
        let room = Room::new(100, PATIENCE);
        let _first = room.enter(60).await.expect("there is room");
        assert!(room.enter(50).await.is_none());
        assert!(room.enter(40).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_with_the_answers() {
        let room = Room::new(100, PATIENCE);
        let places = Places::default();
        places.give_back([Ticket(1)].into_iter());
        for ticket in [1, 2] {
            places.keep(Ticket(ticket), room.try_enter(50).expect("there is room"));
        }
        places.give_back([Ticket(3), Ticket(2)].into_iter());
        assert!(room.try_enter(50).is_some() && room.try_enter(51).is_none());
        places.give_back([Ticket(1)].into_iter());
        assert!(room.try_enter(100).is_some());
    }

    #[test]
    fn only_large_writes_need_a_place() {
        let text = |bytes: u64| bytes::Bytes::from(vec![b'x'; bytes as usize]);
        let append = |bytes| Command::Append { key: "".into(), value: text(bytes) };
        assert_eq!(Room::needed(&Request::Plain(append(LARGE_BYTES - 1))), None);
        assert_eq!(Room::needed(&Request::Plain(append(LARGE_BYTES))), Some(LARGE_BYTES));
        let read = Command::MGet { keys: vec![text(LARGE_BYTES)] };
        assert_eq!(Room::needed(&Request::Plain(read)), None);
        assert_eq!(Room::needed(&Request::OpenSession), None);
    }
}
