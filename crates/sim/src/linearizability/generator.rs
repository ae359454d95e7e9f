//! Histories to try the checker with: legal ones, taken from a register, and faults planted into them.
//!
//! Everything follows from a seed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{Action, End, Observation, Operation};

/// What a generated history is like. Percentages are of all operations; what they leave are appends.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Clients, each with one operation at a time.
    pub clients: usize,
    /// Operations in all.
    pub operations: usize,
    /// Keys, chosen evenly.
    pub keys: usize,
    /// Reads.
    pub get_percent: u64,
    /// Overwrites.
    pub put_percent: u64,
    /// Deletes.
    pub delete_percent: u64,
    /// Operations whose outcome the client never learns.
    pub unknown_percent: u64,
    /// Operations that are not executed.
    pub not_executed_percent: u64,
    /// How many different tokens and values there are; `None`: each is unique.
    pub alphabet: Option<u64>,
    /// Whether appends and deletes tell what they found.
    pub observant: bool,
}

impl Shape {
    /// The mix of the classic lab suite: half appends, 5% puts, and some unknown outcomes; all tokens are unique.
    pub fn lab(clients: usize, operations: usize, keys: usize) -> Shape {
        Shape {
            clients,
            operations,
            keys,
            get_percent: 45,
            put_percent: 5,
            delete_percent: 0,
            unknown_percent: 2,
            not_executed_percent: 1,
            alphabet: None,
            observant: true,
        }
    }
}

/// A small generator of pseudo-random numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// An index into something of length `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True in `percent` of all cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A history that is legal by construction: clients call, at some later time the register executes, at some later time
/// the client learns of it. An operation of unknown outcome is executed long after its client went on, or never.
pub fn generate(shape: Shape, seed: u64) -> Vec<Operation> {
    let mut run = Run {
        shape,
        rng: Rng::new(seed),
        now: 0,
        register: BTreeMap::new(),
        history: Vec::with_capacity(shape.operations),
        clients: vec![Phase::Idle; shape.clients],
        ghosts: Vec::new(),
    };
    while run.history.len() < shape.operations || run.clients.iter().any(|phase| *phase != Phase::Idle) {
        run.step();
    }
    run.history
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Waits for the execution of the operation of that number in the history.
    Called(usize),
    /// Waits for the result.
    Executed(usize, Observation),
}

struct Run {
    shape: Shape,
    rng: Rng,
    now: u64,
    register: BTreeMap<Bytes, Vec<u8>>,
    history: Vec<Operation>,
    clients: Vec<Phase>,
    /// Operations that were given up and may still be executed.
    ghosts: Vec<usize>,
}

impl Run {
    fn step(&mut self) {
        self.now += 1;
        if !self.ghosts.is_empty() && self.rng.percent(2) {
            let chosen = self.rng.index(self.ghosts.len());
            let ghost = self.ghosts.swap_remove(chosen);
            self.execute(ghost);
        }
        let client = self.rng.index(self.clients.len());
        self.clients[client] = match self.clients[client].clone() {
            Phase::Idle if self.history.len() == self.shape.operations => Phase::Idle,
            Phase::Idle => self.call(client as u64),
            Phase::Called(number) if self.rng.percent(self.shape.not_executed_percent) => {
                self.history[number].end = End::NotExecuted;
                Phase::Idle
            }
            Phase::Called(number) if self.rng.percent(self.shape.unknown_percent) => {
                if self.rng.percent(60) {
                    self.ghosts.push(number);
                }
                Phase::Idle
            }
            Phase::Called(number) => Phase::Executed(number, self.execute(number)),
            Phase::Executed(number, result) => {
                self.history[number].end = End::Returned { at: self.now, result };
                Phase::Idle
            }
        };
    }

    fn call(&mut self, client: u64) -> Phase {
        let number = self.history.len();
        let key = Bytes::from(format!("key-{}", self.rng.index(self.shape.keys)));
        let bytes = Bytes::from(match self.shape.alphabet {
            None => format!("x {client} {number} y"),
            Some(size) => ["a", "b", "ab", "ba", "c", ""][self.rng.below(size) as usize % 6].to_string(),
        });
        let dice = self.rng.below(100);
        let Shape { get_percent, put_percent, delete_percent, .. } = self.shape;
        let action = match dice {
            _ if dice < get_percent => Action::Get,
            _ if dice < get_percent + put_percent => Action::Put(bytes),
            _ if dice < get_percent + put_percent + delete_percent => Action::Delete,
            _ => Action::Append(bytes),
        };
        self.history.push(Operation { client, key, call: self.now, action, end: End::Unknown });
        Phase::Called(number)
    }

    fn execute(&mut self, number: usize) -> Observation {
        let Operation { key, action, .. } = &self.history[number];
        let result = match action {
            Action::Get => {
                Observation::Value(self.register.get(key).map(|value| Bytes::copy_from_slice(value)))
            }
            Action::Put(value) => {
                self.register.insert(key.clone(), value.to_vec());
                Observation::Done
            }
            Action::Append(token) => {
                let value = self.register.entry(key.clone()).or_default();
                value.extend_from_slice(token);
                Observation::Length(value.len() as u64)
            }
            Action::Delete => Observation::Removed(self.register.remove(key).is_some()),
        };
        match result {
            Observation::Length(_) | Observation::Removed(_) if !self.shape.observant => Observation::Done,
            result => result,
        }
    }
}

/// A small history, legal or not, with many ways to explain it: few tokens, all kinds of outcomes, and results changed
/// here and there. Which of the two it is must be found out.
pub fn ambiguous(seed: u64, keys: usize) -> Vec<Operation> {
    let mut rng = Rng::new(seed);
    let shape = Shape {
        clients: 2 + rng.index(3),
        operations: 5 + rng.index(4),
        keys,
        get_percent: 40,
        put_percent: 10 + rng.below(20),
        delete_percent: rng.below(20),
        unknown_percent: 20,
        not_executed_percent: 8,
        alphabet: if rng.percent(50) { None } else { Some(1 + rng.below(6)) },
        observant: rng.percent(70),
    };
    let mut history = generate(shape, seed);
    let results = history.iter().filter_map(|operation| match &operation.end {
        End::Returned { result, .. } => Some(result.clone()),
        End::Unknown | End::NotExecuted => None,
    });
    let results: Vec<Observation> = results.collect();
    if rng.percent(20) {
        return history;
    }
    for operation in &mut history {
        if let End::Returned { result, .. } = &mut operation.end
            && rng.percent(60)
        {
            *result = changed(result, &results[rng.index(results.len())], &mut rng);
        }
    }
    history
}

/// Another result of the same kind, perhaps.
fn changed(result: &Observation, other: &Observation, rng: &mut Rng) -> Observation {
    match (result, other) {
        (Observation::Done, _) => Observation::Done,
        (Observation::Length(length), _) => Observation::Length((length + 2).saturating_sub(rng.below(5))),
        (Observation::Removed(removed), _) => Observation::Removed(!removed),
        (Observation::Value(Some(value)), _) if rng.percent(30) => {
            Observation::Value(Some(value.slice(..rng.index(value.len() + 1))))
        }
        (Observation::Value(_), Observation::Value(_)) => other.clone(),
        (Observation::Value(_), _) => Observation::Value(None),
    }
}

/// A fault to plant into a history of unique tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One read does not show an append that had returned before the read was called.
    StaleRead,
    /// No later read shows an append that had returned.
    LostAppend,
    /// From some time on, reads show an append twice.
    DuplicateAppend,
    /// One read shows two appends in the order opposite to that of their times.
    SwappedOrder,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] =
        [Fault::StaleRead, Fault::LostAppend, Fault::DuplicateAppend, Fault::SwappedOrder];
}

/// Makes a legal history of unique tokens without deletes illegal; `false` if the history offers no place for that.
pub fn plant(history: &mut [Operation], fault: Fault, seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let reads: Vec<usize> =
        (0..history.len()).filter(|&number| value_of(&history[number]).is_some()).collect();
    if reads.is_empty() {
        return false;
    }
    // Many reads offer no place, as they show fewer than two appends.
    (0..1000).any(|_| {
        let read = reads[rng.index(reads.len())];
        plant_at(history, fault, read, &mut rng).is_some()
    })
}

/// Plants around the operation numbered `read`, if it shows something fit.
fn plant_at(history: &mut [Operation], fault: Fault, read: usize, rng: &mut Rng) -> Option<()> {
    let value = value_of(&history[read])?.clone();
    let (key, call) = (history[read].key.clone(), history[read].call);
    let mut shown: Vec<(usize, usize)> = Vec::new();
    for (number, operation) in history.iter().enumerate() {
        if let (Action::Append(token), End::Returned { at, .. }) = (&operation.action, &operation.end)
            && operation.key == key
            && *at < call
            && let Some(position) = find(&value, token)
        {
            shown.push((position, number));
        }
    }
    shown.sort_unstable();
    // The first word must stay: an empty value can come again.
    shown.retain(|(position, _)| *position > 0);
    let chosen = rng.index(shown.len().max(1));
    let &(position, append) = shown.get(chosen)?;
    let token = history[append].action.written()?.clone();
    let End::Returned { at: appended_at, .. } = history[append].end else { return None };
    if matches!(fault, Fault::StaleRead | Fault::LostAppend) {
        // A shown append that returned earlier keeps this one from having happened before the last overwrite.
        let &(_, earlier) = shown.get(chosen.checked_sub(1)?)?;
        let End::Returned { at, .. } = history[earlier].end else { return None };
        if at >= history[append].call {
            return None;
        }
    }
    match fault {
        Fault::StaleRead => set_value(&mut history[read], value[..position].to_vec()),
        Fault::LostAppend | Fault::DuplicateAppend => {
            let instead =
                if fault == Fault::LostAppend { Vec::new() } else { [&token[..], &token[..]].concat() };
            for operation in
                history.iter_mut().filter(|operation| operation.key == key && operation.call > appended_at)
            {
                replace(operation, &token, &instead);
            }
        }
        Fault::SwappedOrder => {
            let behind = position + token.len();
            let follower = shown.iter().find(|(position, _)| *position == behind)?.1;
            if history[follower].call <= appended_at {
                return None;
            }
            let second = history[follower].action.written()?.clone();
            let rest = &value[behind + second.len()..];
            set_value(&mut history[read], [&value[..position], &second, &token, rest].concat());
        }
    }
    Some(())
}

fn replace(operation: &mut Operation, token: &[u8], instead: &[u8]) {
    let Some(value) = value_of(operation) else { return };
    let Some(position) = find(value, token) else { return };
    let changed = [&value[..position], instead, &value[position + token.len()..]].concat();
    set_value(operation, changed);
}

fn value_of(operation: &Operation) -> Option<&Bytes> {
    match &operation.end {
        End::Returned { result: Observation::Value(value), .. } => value.as_ref(),
        _ => None,
    }
}

fn set_value(operation: &mut Operation, shown: Vec<u8>) {
    if let End::Returned { result: Observation::Value(value), .. } = &mut operation.end {
        *value = Some(Bytes::from(shown));
    }
}

fn find(value: &[u8], token: &[u8]) -> Option<usize> {
    value.windows(token.len()).position(|window| window == token)
}
