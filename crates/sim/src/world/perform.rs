//! What a core wants done is done: in any order and after any time, but for what must keep its order.

use pontoon_kv::{Command, Entry, Index, MemStore, StoreError};
use pontoon_replica::{Answer, Input, LogRead, Output, Persist, SnapshotMeta, Ticket};

use super::{
    Damage, Server, World,
    event::{Event, Local},
    failing::DiskFault,
    node,
    tables::Tables,
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
            if self.servers[server].life.is_none() {
                return; // Its disk failed.
            }
            let result = self.checks.on_disk(&self.servers[server].disk);
            self.hold(result);
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

    /// The log thread takes what waits and writes it as one batch. It is synced if anything waits for the disk; what nothing
    /// waits for may itself wait.
    pub(super) fn write(&mut self, server: Server) {
        let lazy = self.setup.lazy_writes;
        let machinery = &mut self.servers[server];
        let disk_fault = machinery.disk_fault;
        let life = machinery.life();
        let wanted = life.persists.iter().any(|persist| persist.sync || !lazy);
        if life.writing || !wanted {
            return;
        }
        if disk_fault == Some(DiskFault::Full) {
            return self.fail_stop(server, "writing the log: no space is left");
        }
        life.writing = true;
        let batch: Vec<Persist> = life.persists.drain(..).collect();
        let sync = batch.iter().any(|persist| persist.sync);
        machinery.disk.written.push(batch);
        let delay = machinery.rng.within(if sync { machinery.sync_us } else { (0, 100) });
        self.local(server, delay, Local::Written { sync });
    }

    pub(super) fn on_written(&mut self, server: Server, sync: bool) {
        let machinery = &mut self.servers[server];
        machinery.life().writing = false;
        let batch = machinery.disk.written.last().expect("it has just been written");
        let last = batch.last().expect("a batch is not empty").number;
        if sync {
            if machinery.disk_fault == Some(DiskFault::Failing) {
                #[cfg(feature = "mutants")]
                if self.acknowledges_unsynced(server, last) {
                    return;
                }
                return self.fail_stop(server, "syncing the log failed");
            }
            let disk = &mut self.servers[server].disk;
            let synced = disk.sync();
            let result = self.checks.on_durable(&synced).and_then(|()| self.checks.on_disk(disk));
            self.hold(result);
        }
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
                let outcomes = match life.machine.apply(&entries) {
                    Ok(outcomes) => outcomes,
                    Err(error) => return self.fail_stop(server, &error.to_string()),
                };
                let (index, clock) = (life.machine.applied().index, life.machine.applied().clock);
                let limit_ms = self.clock_limit_ms();
                let result = self.checks.on_applied(index, clock, limit_ms);
                self.hold(result);
                self.trace.line(
                    self.now,
                    format_args!("n{} has applied {index}, {} outcomes", node(server), outcomes.len()),
                );
                self.input(server, Input::Applied { index, outcomes });
            }
        }
        if self.servers[server].life.is_some() {
            self.apply_next(server);
        }
    }

    pub(super) fn on_read_log(&mut self, server: Server, low: Index, high: Index, bytes_max: u64) {
        let entries = match self.servers[server].disk.read_log(low, high, bytes_max) {
            Ok(entries) => entries,
            Err(damage) => return self.fail_stop(server, &damage),
        };
        let delay = self.hesitation(server);
        let input = Input::LogRead(LogRead { low, entries });
        self.local(server, delay, Local::Input(Box::new(input)));
    }

    pub(super) fn on_read(&mut self, server: Server, reads: Vec<(Ticket, Command)>) {
        let machine = &self.servers[server].life().machine;
        let execute =
            |(ticket, command): (Ticket, Command)| Ok((ticket, Answer::Reply(machine.read(&command)?)));
        match reads.into_iter().map(execute).collect::<Result<_, StoreError>>() {
            Ok(answers) => self.answer(server, answers),
            Err(error) => self.fail_stop(server, &error.to_string()),
        }
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
        let state = machinery.life().machine.store().clone();
        let (low, high) = machinery.sync_us;
        let delay = machinery.rng.within((low, high * 4));
        self.local(server, delay, Local::Flushed(state));
    }

    pub(super) fn on_flushed(&mut self, server: Server, flushed: Tables<MemStore>) {
        if self.servers[server].disk_fault.is_some() {
            return self.fail_stop(server, "flushing the state failed");
        }
        let Tables { pairs: state, damaged } = flushed;
        #[cfg(feature = "mutants")]
        let state = self.flushed_wrongly(server, state);
        let index = state.index();
        let disk = &mut self.servers[server].disk;
        // A snapshot may have been installed in the meantime.
        if index > disk.state.index() {
            disk.state = state;
            if damaged.is_none() && matches!(disk.damage, Some(Damage::Value(_))) {
                // A newer value lies over the damaged one.
                disk.damage = None;
            }
            self.input(server, Input::StateDurable(index));
        }
    }

    /// A snapshot that was received becomes the state, durably.
    fn install(&mut self, server: Server, meta: SnapshotMeta) {
        let machinery = &mut self.servers[server];
        if machinery.disk_fault.is_some() {
            return self.fail_stop(server, "installing a snapshot failed");
        }
        let life = machinery.life();
        let state = life.take_staged(&meta).expect("a snapshot that is to be installed was received");
        let machine = &mut life.machine;
        assert!(
            state.index() > machine.applied().index,
            "the snapshot at {} is older than the state",
            meta.index
        );
        let tables = Tables::sound(state.clone());
        machine.replace(tables).expect("a snapshot was checked when it was received");
        assert_eq!(machine.applied().index, meta.index, "a snapshot is of the index that announced it");
        #[cfg(feature = "mutants")]
        let state = super::mutants::installed_wrongly(&machinery.disk, state);
        machinery.disk.replace_state(state);
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
        let view = life.machine.view();
        #[cfg(feature = "mutants")]
        let view = self.pinned_wrongly(server, view);
        let life = self.servers[server].life();
        life.pinned.insert(to, (meta.clone(), view));
        self.input(server, Input::SnapshotBuilt { to, meta });
    }
}
