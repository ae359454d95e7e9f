//! The search for an order that explains one key's results.
//!
//! Wing and Gong ("Testing and verifying concurrent objects", 1993): build the order from its start, taking next any
//! operation that was called before the first return among those left, and go back where that leads nowhere. Lowe
//! ("Testing for linearizability", 2017): remember which (set of taken operations, state) led nowhere. Instead of the
//! set a 128-bit hash of both is remembered, so memory is 16 bytes a step.
//!
//! On top, what is known beforehand (see [`problem`](super::problem)), and one law: a read that fits is taken at once,
//! with no way back, because taking it earlier hinders nobody.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    content::scatter,
    problem::{Effect, Place, Problem, State},
};

/// What the search found, and how many steps it took.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) outcome: Outcome,
    pub(super) steps: u64,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Legal,
    Illegal {
        /// The time of the return that no order got beyond.
        stuck_at: u64,
    },
    Undecided,
}

/// Looks for an order, taking and undoing at most `steps_max` operations.
pub(super) fn search(problem: &Problem, steps_max: u64) -> Search {
    let mut run = Run::new(problem);
    let outcome = run.run(steps_max);
    Search { outcome, steps: run.steps }
}

struct Run<'p> {
    problem: &'p Problem,
    pending: Pending,
    taken: Vec<bool>,
    /// The exclusive or of a random number per taken operation.
    taken_hash: u128,
    /// Per node: reads not taken yet.
    reads_left: Vec<usize>,
    /// Per node: sources not taken yet.
    sources_left: Vec<usize>,
    /// Per class: how many are taken.
    class_used: Vec<usize>,
    /// Per operation of unknown outcome: its class.
    class_of: Vec<Option<usize>>,
    /// Operations that must still be taken.
    required_left: usize,
    visited: HashSet<u128, BuildHasherDefault<AsIs>>,
    /// The candidates of all frames, one frame's behind the other's.
    candidates: Vec<usize>,
    frames: Vec<Frame>,
    steps: u64,
    /// The furthest first return among the operations left, as an index of events.
    furthest: usize,
}

/// A configuration on the way, and what is left to try there.
struct Frame {
    state: State,
    /// Its candidates start here and end where the next frame's start.
    start: usize,
    /// The next one to try.
    next: usize,
    /// The one that is being tried.
    tried: Option<usize>,
}

impl<'p> Run<'p> {
    fn new(problem: &'p Problem) -> Run<'p> {
        let mut class_of = vec![None; problem.ops.len()];
        for (class, members) in problem.classes.iter().enumerate() {
            for &op in members {
                class_of[op] = Some(class);
            }
        }
        Run {
            problem,
            pending: Pending::new(problem),
            taken: vec![false; problem.ops.len()],
            taken_hash: 0,
            reads_left: problem.nodes.iter().map(|node| node.reads).collect(),
            sources_left: problem.nodes.iter().map(|node| node.sources).collect(),
            class_used: vec![0; problem.classes.len()],
            class_of,
            required_left: problem.ops.iter().filter(|op| op.returned.is_some()).count(),
            visited: HashSet::default(),
            candidates: Vec::new(),
            frames: Vec::new(),
            steps: 0,
            furthest: 0,
        }
    }

    fn run(&mut self, steps_max: u64) -> Outcome {
        if self.required_left == 0 {
            return Outcome::Legal;
        }
        self.enter(State::ABSENT);
        while let Some(frame) = self.frames.last_mut() {
            if let Some(op) = frame.tried.take() {
                self.undo(op);
                continue;
            }
            let Some(&op) = self.candidates.get(frame.next) else {
                self.candidates.truncate(frame.start);
                self.frames.pop();
                continue;
            };
            frame.next += 1;
            frame.tried = Some(op);
            let state = self.problem.step(op, frame.state).expect("candidates are applicable");
            if self.steps == steps_max {
                return Outcome::Undecided;
            }
            self.steps += 1;
            self.take(op);
            if self.required_left == 0 {
                return Outcome::Legal;
            }
            let presence = if state.present { u128::MAX } else { 0 };
            if self.visited.insert(self.taken_hash ^ state.content.digest() ^ presence) {
                self.enter(state);
            }
        }
        Outcome::Illegal { stuck_at: self.problem.events[self.furthest].time }
    }

    /// Opens a frame with the operations that may come next in `state`.
    fn enter(&mut self, state: State) {
        let start = self.candidates.len();
        self.frames.push(Frame { state, start, next: start, tried: None });
        let window = self.scan(state, start);
        if window.forced {
            return;
        }
        let node = self.problem.node_of.get(&state.content).copied();
        if let Some(node) = node
            && self.sources_left[node] == 0
        {
            // These contents never come again: all that happens to them happens now.
            let follower = self.follower(node);
            if self.reads_left[node] > 0 || follower != Follower::None {
                self.candidates.truncate(start);
                if let Follower::Only(op) = follower
                    && self.reads_left[node] == 0
                    && self.problem.ops[op].called < window.first_return
                {
                    self.candidates.push(op);
                }
                return;
            }
        }
        if let Some(node) = node {
            let appends = self.problem.nodes[node].appends.iter().copied();
            let open = appends.filter(|&op| !self.taken[op] && self.problem.ops[op].returned.is_none());
            self.candidates.extend(open.filter(|&op| self.problem.ops[op].called < window.first_return));
        }
        self.offer_classes(state, &window);
        let ops = &self.problem.ops;
        // Hidden appends fit in few places, so they come first; what need not happen at all comes last.
        self.candidates[start..].sort_by_key(|&op| {
            let is_append = matches!(ops[op].effect, Effect::Append { .. });
            (ops[op].returned.is_none(), !is_append, ops[op].returned, ops[op].called)
        });
    }

    /// Collects, of the operations that must take effect, those that may come next. A read that fits comes alone.
    fn scan(&mut self, state: State, start: usize) -> Window {
        let events = &self.problem.events;
        let mut window = Window { first_return: usize::MAX, forced: false, hidden_len_max: None, wants_presence: false };
        let mut at = self.pending.first();
        loop {
            let event = events[at];
            if event.is_return {
                window.first_return = event.position;
                self.furthest = self.furthest.max(at);
                return window;
            }
            let effect = self.problem.ops[event.op].effect;
            match effect {
                Effect::Append { token, place: Place::Hidden, length: Some(length) } => {
                    window.hidden_len_max = window.hidden_len_max.max(length.checked_sub(token.content.len));
                }
                Effect::Delete { removed: Some(true) } => window.wants_presence = true,
                _ => {}
            }
            if self.problem.step(event.op, state).is_some() {
                if matches!(effect, Effect::Read { .. } | Effect::Delete { removed: Some(false) }) {
                    self.candidates.truncate(start);
                    window.forced = true;
                }
                self.candidates.push(event.op);
                if window.forced {
                    return window;
                }
            }
            at = self.pending.after(at);
        }
    }

    /// The append that must follow on contents that never come again.
    fn follower(&self, node: usize) -> Follower {
        let mut left = self.problem.nodes[node].appends.iter().copied().filter(|&op| !self.taken[op]);
        match (left.next(), left.next()) {
            (None, _) => Follower::None,
            (Some(op), None) => Follower::Only(op),
            (Some(_), Some(_)) => Follower::Several,
        }
    }

    /// Adds the first unused operation of each class of unknown outcome, unless it is of no use here.
    fn offer_classes(&mut self, state: State, window: &Window) {
        for (class, members) in self.problem.classes.iter().enumerate() {
            let Some(&op) = members.get(self.class_used[class]) else { continue };
            if self.problem.ops[op].called >= window.first_return {
                continue;
            }
            let useful = match self.problem.ops[op].effect {
                // It may wait until directly before the operation that observes it.
                Effect::Append { token, place: Place::Hidden, .. } => {
                    let len = state.content.len + token.content.len;
                    window.hidden_len_max.is_some_and(|max| len <= max) || (window.wants_presence && !state.present)
                }
                _ => self.problem.step(op, state).is_some_and(|after| after != state),
            };
            if useful {
                self.candidates.push(op);
            }
        }
    }

    fn take(&mut self, op: usize) {
        self.taken[op] = true;
        self.taken_hash ^= scatter(op as u64);
        let facts = &self.problem.ops[op];
        if facts.returned.is_some() {
            self.pending.remove(op);
            self.required_left -= 1;
        }
        if let Some(class) = self.class_of[op] {
            self.class_used[class] += 1;
        }
        if let Some(node) = facts.node {
            match facts.effect {
                Effect::Read { .. } => self.reads_left[node] -= 1,
                _ => self.sources_left[node] -= 1,
            }
        }
    }

    fn undo(&mut self, op: usize) {
        self.taken[op] = false;
        self.taken_hash ^= scatter(op as u64);
        let facts = &self.problem.ops[op];
        if facts.returned.is_some() {
            self.pending.restore(op);
            self.required_left += 1;
        }
        if let Some(class) = self.class_of[op] {
            self.class_used[class] -= 1;
        }
        if let Some(node) = facts.node {
            match facts.effect {
                Effect::Read { .. } => self.reads_left[node] += 1,
                _ => self.sources_left[node] += 1,
            }
        }
    }
}

/// What holds for the operations that were called before the first return.
struct Window {
    /// Position of the first return.
    first_return: usize,
    /// A read fits: it is the only candidate.
    forced: bool,
    /// The greatest length that an append whose bytes are hidden says it was applied to.
    hidden_len_max: Option<u64>,
    /// A delete says that there was something.
    wants_presence: bool,
}

#[derive(PartialEq, Eq)]
enum Follower {
    None,
    Only(usize),
    /// More than can be.
    Several,
}

/// The events of the operations not taken yet, as a doubly linked list over the indexes of events. Operations are
/// restored in the opposite order of their removal, so their old links are right again ("dancing links").
struct Pending {
    /// `next[i + 1]` follows event i; `next[0]` is the first.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Per operation: the indexes of its call and return.
    events_of: Vec<(usize, usize)>,
}

impl Pending {
    fn new(problem: &Problem) -> Pending {
        let count = problem.events.len();
        let mut events_of = vec![(0, 0); problem.ops.len()];
        for (index, event) in problem.events.iter().enumerate() {
            let (call, ret) = &mut events_of[event.op];
            *(if event.is_return { ret } else { call }) = index;
        }
        // Link i is that of event i - 1; link 0 is the head.
        Pending { next: (1..=count + 1).collect(), previous: (0..=count + 1).map(|i| i.saturating_sub(1)).collect(), events_of }
    }

    fn first(&self) -> usize {
        self.next[0] - 1
    }

    fn after(&self, event: usize) -> usize {
        self.next[event + 1] - 1
    }

    fn remove(&mut self, op: usize) {
        let (call, ret) = self.events_of[op];
        for link in [call + 1, ret + 1] {
            self.next[self.previous[link]] = self.next[link];
            self.previous[self.next[link]] = self.previous[link];
        }
    }

    fn restore(&mut self, op: usize) {
        let (call, ret) = self.events_of[op];
        for link in [ret + 1, call + 1] {
            self.next[self.previous[link]] = link;
            self.previous[self.next[link]] = link;
        }
    }
}

/// Hashes a number that is random already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}
