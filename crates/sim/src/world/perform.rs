//! What a core wants done is done: in any order and after any time, but for what must keep its order.

use pontoon_kv::{Command, Entry, Index, MemStore, Store};
use pontoon_replica::{Answer, Input, LogRead, Output, Persist, SnapshotMeta, Ticket};

use super::{
    Server, World,
    event::{Event, Local},
    node,
    server::Life,
};
use crate::{check::Violation, rng::Rng};

/// What the apply thread does, in order.
#[derive(Debug)]
pub(crate) enum ApplyJob {
    Apply(Vec<Entry>),
    Install(SnapshotMeta),
}

/// What must keep its order, and among what.
#[derive(PartialEq)]
enum Lane {
    Log,
    Apply,
}

fn lane(output: &Output) -> Option<Lane> {
    match output {
        Output::Persist(_) => Some(Lane::Log),
        Output::Apply(_) | Output::InstallSnapshot(_) => Some(Lane::Apply),
        _ => None,
    }
}

/// Any order that keeps that of the log's outputs among one another, and of the state's.
fn shuffled(mut outputs: Vec<Output>, rng: &mut Rng) -> Vec<Output> {
    let mut order: Vec<usize> = (0..outputs.len()).collect();
    rng.shuffle(&mut order);
    for kept in [Lane::Log, Lane::Apply] {
        let is_kept = |at: &usize| lane(&outputs[*at]).is_some_and(|lane| lane == kept);
        let slots: Vec<usize> = (0..order.len()).filter(|slot| is_kept(&order[*slot])).collect();
        let mut ascending: Vec<usize> = slots.iter().map(|slot| order[*slot]).collect();
        ascending.sort_unstable();
        slots.into_iter().zip(ascending).for_each(|(slot, at)| order[slot] = at);
    }
    let mut taken: Vec<Option<Output>> = outputs.drain(..).map(Some).collect();
    order.into_iter().map(|at| taken[at].take().expect("an order names each once")).collect()
}

impl World {
    /// Performs a turn's outputs; the process may end between any two of them.
    pub(super) fn perform_all(&mut self, server: Server, outputs: Vec<Output>) {
        for output in shuffled(outputs, &mut self.servers[server].rng) {
            if let Some((left, down)) = &mut self.servers[server].fuse {
                if *left == 0 {
                    let down = *down;
                    self.crash(server);
                    return self.after(down, Event::Restart(server));
                }
                *left -= 1;
            }
            self.perform(server, output);
        }
    }

    /// How long it takes until a thread gets to what it is told.
    fn hesitation(&mut self, server: Server) -> u64 {
        let longest = self.setup.hesitation_us_max;
        let rng = &mut self.servers[server].rng;
        if rng.chance(0.02) { rng.below(longest) } else { rng.below(100) }
    }

    fn perform(&mut self, server: Server, output: Output) {
        #[cfg(feature = "mutants")]
        let output = self.performed_wrongly(server, output);
        let delay = self.hesitation(server);
        match output {
            Output::Send(messages) => messages.iter().for_each(|message| self.post(server, message)),
            Output::Persist(persist) => {
                let sync = persist.sync;
                self.servers[server].life().persists.push_back(persist);
                match sync || self.setup.lazy_writes {
                    true => self.write(server),
                    false => self.local(server, delay, Local::Write),
                }
            }
            Output::Apply(entries) => self.enqueue(server, ApplyJob::Apply(entries)),
            Output::InstallSnapshot(meta) => self.enqueue(server, ApplyJob::Install(meta)),
            Output::Read(reads) => self.local(server, delay, Local::Read(reads)),
            Output::Answer(answers) => self.answer(server, answers),
            Output::ReadLog { low, high, bytes_max } => {
                self.counts.log_reads += 1;
                // The log may change before it is read, and again before the core hears of that.
                self.local(server, delay, Local::ReadLog { low, high, bytes_max });
            }
            Output::BuildSnapshot { to } => self.local(server, delay, Local::Build(to)),
            Output::ReleaseSnapshot { to } => drop(self.servers[server].life().pinned.remove(&to)),
            Output::SendSnapshot(message) => self.send_snapshot(server, message),
            Output::FlushState => self.local(server, delay, Local::Flush),
        }
    }

    /// The log thread takes what waits, writes it, and syncs. What nothing waits for may wait itself.
    pub(super) fn write(&mut self, server: Server) {
        let lazy = self.setup.lazy_writes;
        let machinery = &mut self.servers[server];
        let life = machinery.life();
        let wanted = life.persists.iter().any(|persist| persist.sync || !lazy);
        if life.syncing || !wanted {
            return;
        }
        life.syncing = true;
        let taken: Vec<Persist> = life.persists.drain(..).collect();
        machinery.disk.unsynced.extend(taken);
        let delay = machinery.rng.within(machinery.sync_us);
        self.local(server, delay, Local::Synced);
    }

    pub(super) fn on_synced(&mut self, server: Server) {
        let machinery = &mut self.servers[server];
        machinery.life().syncing = false;
        let synced = machinery.disk.sync();
        let result = self.checks.on_durable(&synced);
        self.hold(result);
        let last = synced.last().expect("what is synced was written").persist.number;
        self.trace.line(self.now, format_args!("n{} has persisted {last}", node(server)));
        self.input(server, Input::Persisted(last));
        self.write(server);
    }

    fn enqueue(&mut self, server: Server, job: ApplyJob) {
        self.servers[server].life().apply.push_back(job);
        self.apply_next(server);
    }

    fn apply_next(&mut self, server: Server) {
        let life = self.servers[server].life();
        if !life.applying && !life.apply.is_empty() {
            life.applying = true;
            let delay = self.hesitation(server);
            self.local(server, delay, Local::Applied);
        }
    }

    pub(super) fn on_applied(&mut self, server: Server) {
        let life = self.servers[server].life();
        life.applying = false;
        match life.apply.pop_front().expect("a job was begun") {
            ApplyJob::Install(meta) => self.install(server, meta),
            ApplyJob::Apply(mut entries) => {
                // The thread takes all that waits as one batch.
                while let Some(ApplyJob::Apply(more)) = life.apply.front_mut() {
                    entries.append(more);
                    life.apply.pop_front();
                }
                #[cfg(feature = "mutants")]
                pontoon_kv::mutants::set_clock_ahead_ms(server as u64 * 3_600_000);
                let outcomes = life.machine.apply(&entries).expect("a store in memory does not fail");
                let index = life.machine.applied().index;
                self.trace.line(
                    self.now,
                    format_args!("n{} has applied {index}, {} outcomes", node(server), outcomes.len()),
                );
                self.input(server, Input::Applied { index, outcomes });
            }
        }
        self.apply_next(server);
    }

    pub(super) fn on_read_log(&mut self, server: Server, low: Index, high: Index, bytes_max: u64) {
        let entries = self.servers[server].disk.log.read(low, high, bytes_max);
        let delay = self.hesitation(server);
        let input = Input::LogRead(LogRead { low, entries });
        self.local(server, delay, Local::Input(Box::new(input)));
    }

    pub(super) fn on_read(&mut self, server: Server, reads: Vec<(Ticket, Command)>) {
        let machine = &self.servers[server].life().machine;
        let execute = |(ticket, command): (Ticket, Command)| {
            let reply = machine.read(&command).expect("a store in memory does not fail");
            (ticket, Answer::Reply(reply))
        };
        let answers = reads.into_iter().map(execute).collect();
        self.answer(server, answers);
    }

    fn answer(&mut self, server: Server, answers: Vec<(Ticket, Answer)>) {
        #[cfg(feature = "mutants")]
        let answers = self.answered_wrongly(server, answers);
        for (ticket, answer) in answers {
            match self.servers[server].life().tickets.remove(&ticket.0) {
                Some(waiting) => self.reply(server, waiting, answer),
                None => {
                    let what = format!("n{} answers ticket {} twice: {answer:?}", node(server), ticket.0);
                    self.hold(Err(Violation::new("every request is answered once", what)));
                }
            }
        }
    }

    /// The state as it is now goes to the disk.
    pub(super) fn flush(&mut self, server: Server) {
        let machinery = &mut self.servers[server];
        let state: MemStore = machinery.life().machine.store().clone();
        let (low, high) = machinery.sync_us;
        let delay = machinery.rng.within((low, high * 4));
        self.local(server, delay, Local::Flushed(state));
    }

    pub(super) fn on_flushed(&mut self, server: Server, state: MemStore) {
        #[cfg(feature = "mutants")]
        let state = self.flushed_wrongly(server, state);
        let index = state.index();
        let durable = &mut self.servers[server].disk.state;
        // A snapshot may have been installed in the meantime.
        if index > durable.index() {
            *durable = state;
            self.input(server, Input::StateDurable(index));
        }
    }

    /// A snapshot that was received becomes the state, durably.
    fn install(&mut self, server: Server, meta: SnapshotMeta) {
        let machinery = &mut self.servers[server];
        let Life { machine, staged, .. } = machinery.life();
        let state =
            staged.remove(&(meta.index, meta.term)).expect("a snapshot that is to be installed was received");
        assert!(
            state.index() > machine.applied().index,
            "the snapshot at {} is older than the state",
            meta.index
        );
        staged.retain(|(index, _), _| *index > meta.index);
        machine.replace(state.clone()).expect("a snapshot was checked when it was received");
        assert_eq!(machine.applied().index, meta.index, "a snapshot is of the index that announced it");
        #[cfg(feature = "mutants")]
        let state = super::mutants::installed_wrongly(&machinery.disk, state);
        machinery.disk.state = state;
        self.counts.snapshots += 1;
        self.trace
            .line(self.now, format_args!("n{} has installed the snapshot at {}", node(server), meta.index));
        self.input(server, Input::SnapshotInstalled(meta));
    }

    pub(super) fn on_build(&mut self, server: Server, to: pontoon_kv::NodeId) {
        let life = self.servers[server].life();
        let applied = life.machine.applied().clone();
        let meta = SnapshotMeta {
            index: applied.index,
            term: applied.term,
            clock: applied.clock,
            conf_state: applied.conf_state,
        };
        let view = life.machine.store().view();
        #[cfg(feature = "mutants")]
        let view = self.pinned_wrongly(server, view);
        let life = self.servers[server].life();
        life.pinned.insert(to, (meta.clone(), view));
        self.input(server, Input::SnapshotBuilt { to, meta });
    }
}
