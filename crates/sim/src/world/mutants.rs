//! The driver's bugs that are planted on purpose: see [`crate::mutants`].

use bytes::Bytes;
use pontoon_kv::{Applied, MemStore, Reader, Store, layout, mutants::is_session_key};
use pontoon_replica::{Answer, Input, Message, MessageKind, NotExecuted, Output, Request, Role, Ticket};

use super::{Damage, Disk, LogImage, Server, World, clients::Waiting, event::Local, tables::Tables};
use crate::{
    mutants::{Mutant, planted},
    time::MS,
};

type View = <Tables<MemStore> as Store>::View;

impl World {
    /// True: the request was dealt with.
    pub(super) fn asked_wrongly(
        &mut self,
        server: Server,
        ticket: u64,
        waiting: Waiting,
        request: &Request,
    ) -> bool {
        if planted(Mutant::WaiterEnteredLate) {
            self.local(server, 2 * MS, Local::Enter(ticket, waiting));
            self.input(server, Input::Request(Ticket(ticket), request.clone()));
            return true;
        }
        let life = self.servers[server].life();
        let leads = life.replica.status().role == Role::Leader;
        let (Request::Plain(command) | Request::Once { command, .. }) = request else { return false };
        if planted(Mutant::LeaderReadsOwnState) && leads && command.is_read() {
            life.tickets.insert(ticket, waiting);
            self.local(server, 0, Local::Read(vec![(Ticket(ticket), command.clone())]));
            return true;
        }
        false
    }

    pub(super) fn sent_wrongly(&mut self, from: Server, message: &Message) -> Message {
        let mut message = message.clone();
        if planted(Mutant::HeartbeatCommitsAll) && message.kind == MessageKind::Heartbeat {
            message.commit = self.servers[from].life().replica.status().commit;
        }
        message
    }

    pub(super) fn performed_wrongly(&mut self, server: Server, mut output: Output) -> Output {
        match &mut output {
            Output::Persist(persist) if planted(Mutant::NeverTrims) => persist.trim_to = None,
            Output::Persist(persist)
                if planted(Mutant::VoteBeforeDisk)
                    && persist.hard_state.is_some()
                    && persist.entries.is_empty()
                    || planted(Mutant::AppendBeforeDisk) && !persist.entries.is_empty() =>
            {
                self.input(server, Input::Persisted(persist.number));
            }
            Output::Apply(entries) if planted(Mutant::ReadBeforeApplied) => {
                let index = entries.last().expect("what is applied is not empty").index;
                self.input(server, Input::Applied { index, outcomes: Vec::new() });
            }
            Output::InstallSnapshot(meta) if planted(Mutant::LogResetBeforeInstall) => {
                let log = &mut self.servers[server].disk.log;
                log.trimmed = (meta.index, meta.term);
                log.entries.clear();
            }
            _ => {}
        }
        output
    }

    pub(super) fn answered_wrongly(
        &mut self,
        server: Server,
        mut answers: Vec<(Ticket, Answer)>,
    ) -> Vec<(Ticket, Answer)> {
        let life = self.servers[server].life();
        if planted(Mutant::WaiterEnteredLate) {
            answers.retain(|(ticket, _)| life.tickets.contains_key(&ticket.0));
        }
        let gone =
            |(ticket, _): &(Ticket, Answer)| life.tickets.get(&ticket.0).is_some_and(|waiting| waiting.late);
        if planted(Mutant::ApplyWaitsForClient) && answers.iter().any(gone) {
            life.applying = true;
        }
        if planted(Mutant::RepliesCrossed) && answers.len() > 1 {
            let tickets: Vec<Ticket> = answers.iter().map(|(ticket, _)| *ticket).collect();
            let crossed = tickets.iter().cycle().skip(1);
            answers.iter_mut().zip(crossed).for_each(|(answer, ticket)| answer.0 = *ticket);
        }
        if planted(Mutant::UnknownIsNotExecuted) {
            for (_, answer) in &mut answers {
                if matches!(answer, Answer::Unknown(_)) {
                    *answer = Answer::NotExecuted(NotExecuted::NotReady);
                }
            }
        }
        answers
    }

    /// True: the disk failed to sync, and the core is told that it did not.
    pub(super) fn acknowledges_unsynced(&mut self, server: Server, number: u64) -> bool {
        if planted(Mutant::FailedSyncIgnored) {
            self.input(server, Input::Persisted(number));
            self.write(server);
        }
        planted(Mutant::FailedSyncIgnored)
    }

    pub(super) fn flushed_wrongly(&mut self, server: Server, state: MemStore) -> MemStore {
        let machinery = &mut self.servers[server];
        let durable = &mut machinery.disk.state;
        let planted = planted(Mutant::SessionsDurableFirst) && durable.index().0 > 0;
        if !planted || machinery.rng.chance(0.5) {
            return state;
        }
        // A crash before the next flush finds new sessions beside old data.
        for (key, record) in sessions(&state) {
            durable.tamper(key, Some(record));
        }
        durable.clone()
    }

    pub(super) fn pinned_wrongly(&mut self, server: Server, view: View) -> View {
        if planted(Mutant::SessionsNotInSnapshot) {
            let mut state = self.applied_state(server).clone();
            for (key, _) in sessions(&state) {
                state.tamper(key, None);
            }
            return Tables::sound(state.view());
        }
        let machinery = &self.servers[server];
        if planted(Mutant::SnapshotLabelledLater) && machinery.disk.state.index().0 > 0 {
            let mut state = machinery.disk.state.clone();
            let label = view.get(layout::APPLIED_KEY).expect("a view in memory can be read");
            state.tamper(Bytes::from_static(layout::APPLIED_KEY), label);
            return Tables::sound(state.view());
        }
        view
    }

    /// True: the snapshot was dealt with.
    pub(super) fn received_wrongly(&mut self, server: Server, message: &Message) -> bool {
        let meta = message.snapshot.clone().expect("a snapshot's message says what it is of");
        let older = meta.index < self.applied_state(server).index();
        if !planted(Mutant::OlderSnapshotInstalled) || !older {
            return false;
        }
        let life = self.servers[server].life();
        let state = life.take_staged(&meta).expect("it has just been received");
        life.machine.replace(Tables::sound(state)).expect("a snapshot was checked when it was received");
        true
    }
}

/// Whatever is damaged is taken for what a crash left, and cut off.
pub(super) fn cut_at_damage(disk: &mut Disk) {
    if planted(Mutant::DamageCutOff)
        && let Some(Damage::Entry(index, _)) = disk.damage
    {
        let kept = index.0.saturating_sub(disk.log.trimmed.0.0 + 1);
        disk.log.entries.truncate(kept as usize);
        disk.damage = None;
    }
}

pub(super) fn installed_wrongly(disk: &Disk, state: MemStore) -> MemStore {
    if planted(Mutant::InstallNotDurable) { disk.state.clone() } else { state }
}

pub(super) fn recovered_wrongly(log: &mut LogImage, applied: &Applied) {
    if planted(Mutant::LogSuffixDropped) && log.last() > applied.index {
        log.trimmed = (applied.index, applied.term);
        log.entries.clear();
        log.hard_state.commit = log.hard_state.commit.min(applied.index);
    }
}

fn sessions(state: &MemStore) -> Vec<(Bytes, Bytes)> {
    let mut pairs = Vec::new();
    let collect = &mut |key: Bytes, record| {
        if is_session_key(&key) {
            pairs.push((key, record));
        }
        true
    };
    state.scan(&[], &[], collect).expect("a store in memory can be read");
    pairs
}
