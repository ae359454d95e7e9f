//! One incoming snapshot at a time per group; a newer one takes the place of an older one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use pontoon_kv::{GroupId, Term};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};

/// Who receives, per group.
#[derive(Default)]
pub(super) struct Transfers {
    latest: Mutex<BTreeMap<GroupId, Latest>>,
}

struct Latest {
    term: Term,
    replaced: Arc<Notify>,
    stage: Arc<AsyncMutex<()>>,
}

/// A transfer that is the newest of its group, or was.
pub(super) struct Turn<'a> {
    transfers: &'a Transfers,
    group: GroupId,
    replaced: Arc<Notify>,
    stage: Arc<AsyncMutex<()>>,
}

impl Transfers {
    /// Becomes the group's newest transfer and ends the one before, unless that one is of a later term: the sender of this one
    /// leads no more.
    pub(super) fn enter(&self, group: GroupId, term: Term) -> Option<Turn<'_>> {
        let mut latest = self.latest.lock().expect("no panic holds this lock");
        let replaced = Arc::new(Notify::new());
        let stage = match latest.get(&group) {
            Some(before) if before.term > term => return None,
            Some(before) => {
                before.replaced.notify_one();
                before.stage.clone()
            }
            None => Arc::default(),
        };
        latest.insert(group, Latest { term, replaced: replaced.clone(), stage: stage.clone() });
        Some(Turn { transfers: self, group, replaced, stage })
    }
}

impl Turn<'_> {
    /// Waits until the stage of the transfer before is gone. The guard goes to whoever holds the stage of this one.
    pub(super) async fn stage(&self) -> OwnedMutexGuard<()> {
        self.stage.clone().lock_owned().await
    }

    /// Waits until a newer transfer takes this one's place.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut latest = self.transfers.latest.lock().expect("no panic holds this lock");
        // A stage that is still held outlives this turn on its thread; it then keeps its lock known.
        let mine = latest.get(&self.group).is_some_and(|now| Arc::ptr_eq(&now.replaced, &self.replaced));
        if mine && self.stage.try_lock().is_ok() {
            latest.remove(&self.group);
        }
    }
}
