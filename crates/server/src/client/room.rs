//! Room for large requests.
//!
//! What one connection has in flight is bounded in bytes. But what many have together may keep the disks busy for longer than any
//! request may wait, and as long as clients go on like that, all would end as unknown: written, and nobody told. So of large requests the core
//! gets no more than a bounded number of bytes. Further ones wait outside in the order in which they came, and their connections with
//! them. Their time in the core does not run yet; who waits for as long as that outside is surely not executed.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request of fewer bytes needs no room: the core bounds their sum.
const LARGE_BYTES: u64 = 64 << 10;

/// Large requests that the core has not answered, in bytes. Of three servers together, 96 MiB are some two seconds' work of
/// disks that write 50 MiB/s of values.
pub(crate) const ROOM_BYTES: u32 = 32 << 20;

/// Shared by all connections.
pub(crate) struct Room {
    free: Arc<Semaphore>,
    bytes: u32,
    patience: Duration,
}

/// A large request's part of the room. Given back when dropped.
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

    /// Whether a request of so many bytes needs a place.
    pub(crate) fn is_needed(bytes: u64) -> bool {
        bytes >= LARGE_BYTES
    }

    /// A place for so many bytes (for all the room, if they are more), if it is free now and nobody waits for one.
    pub(crate) fn try_enter(&self, bytes: u64) -> Option<Place> {
        let permit = self.free.clone().try_acquire_many_owned(self.part(bytes)).ok()?;
        Some(Place { _permit: permit })
    }

    /// The same as soon as it is free and all who came before have theirs.
    pub(crate) fn enter(&self, bytes: u64) -> PlaceFuture {
        let permit = self.free.clone().acquire_many_owned(self.part(bytes));
        let permit = tokio::time::timeout(self.patience, permit);
        Box::pin(async { Some(Place { _permit: permit.await.ok()?.ok()? }) })
    }

    fn part(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).map_or(self.bytes, |bytes| bytes.min(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn is_waiting(place: &mut PlaceFuture) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        place.as_mut().poll(&mut context).is_pending()
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_in_the_order_of_asking_as_far_as_there_is_room() {
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
}
