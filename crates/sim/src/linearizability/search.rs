//! The search for an order that explains one key's results.
//!
//! Wing and Gong ("Testing and verifying concurrent objects", 1993): build the order from its start, taking next any
//! operation that was called before the first return among those left, and go back where that leads nowhere. Lowe
//! ("Testing for linearizability", 2017): remember which (set of taken operations, state) led nowhere. Instead of the
//! set a 128-bit hash of both is remembered, so memory stays small.
//!
//! On top, what is known beforehand (see [`problem`](super::problem)), and two laws. A read that fits is taken at once,
//! with no way back, because taking it earlier hinders nobody. An operation of unknown outcome is taken only where the
//! next one makes use of it: elsewhere an order without it, or with it later, does as well.

use super::{
    content::scatter,
    problem::{Effect, Place, Problem, State},
    visited::Visited,
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
    Illegal,
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
    /// The exclusive or of a random number per taken operation that is in no class.
    taken_hash: u128,
    /// The same of those in classes.
    usage_hash: u128,
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
    visited: Visited,
    /// The candidates of all frames, one frame's behind the other's.
    candidates: Vec<usize>,
    frames: Vec<Frame>,
    steps: u64,
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
            usage_hash: 0,
            reads_left: problem.nodes.iter().map(|node| node.reads).collect(),
            sources_left: problem.nodes.iter().map(|node| node.sources).collect(),
            class_used: vec![0; problem.classes.len()],
            class_of,
            required_left: problem.ops.iter().filter(|op| op.returned.is_some()).count(),
            visited: Visited::default(),
            candidates: Vec::new(),
            frames: Vec::new(),
            steps: 0,
        }
    }

    fn run(&mut self, steps_max: u64) -> Outcome {
        if self.required_left == 0 {
            return Outcome::Legal;
        }
        self.enter(State::ABSENT, Owed::Nothing);
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
            let owed = self.owed_after(op);
            let configuration = self.taken_hash ^ state.digest() ^ scatter(u64::MAX - owed as u64);
            if self.visited.insert(configuration, self.usage_hash, &self.class_used) {
                self.enter(state, owed);
            }
        }
        Outcome::Illegal
    }

    /// Opens a frame with the operations that may come next in `state`.
    fn enter(&mut self, state: State, owed: Owed) {
        let start = self.candidates.len();
        self.frames.push(Frame { state, start, next: start, tried: None });
        self.offer(state, start);
        if owed != Owed::Nothing {
            let mut kept = start;
            for at in start..self.candidates.len() {
                let op = self.candidates[at];
                if self.makes_use(op, owed) {
                    self.candidates[kept] = op;
                    kept += 1;
                }
            }
            self.candidates.truncate(kept);
        }
    }

    /// What the operation after `op` owes to it.
    fn owed_after(&self, op: usize) -> Owed {
        match (self.class_of[op], self.problem.ops[op].effect) {
            (None, _) => Owed::Nothing,
            (_, Effect::Put(content)) if content.is_hidden() && !self.problem.silent_hidden => {
                Owed::Observation
            }
            (_, Effect::Append { place: Place::Hidden, .. }) => Owed::Observation,
            (_, Effect::Put(_) | Effect::Delete { .. }) => Owed::Notice,
            (_, Effect::Append { .. } | Effect::Read { .. }) => Owed::Nothing,
        }
    }

    fn makes_use(&self, op: usize, owed: Owed) -> bool {
        match (owed, self.problem.ops[op].effect) {
            (Owed::Nothing, _) | (_, Effect::Delete { removed: Some(_) }) => true,
            (_, Effect::Put(_) | Effect::Delete { removed: None }) => false,
            (Owed::Observation, Effect::Append { place: Place::Hidden, length, .. }) => {
                length.is_some() || self.class_of[op].is_some()
            }
            (Owed::Observation, _) => false,
            (Owed::Notice, _) => true,
        }
    }

    /// Collects the operations that may come next in `state`.
    fn offer(&mut self, state: State, start: usize) {
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
        let mut window =
            Window { first_return: usize::MAX, forced: false, hidden_len_max: None, wants_presence: false };
        let mut at = self.pending.first();
        loop {
            let event = events[at];
            if event.is_return {
                window.first_return = event.position;
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
                Effect::Append { token, place: Place::Hidden, .. } => {
                    window.can_observe(state, state.content.len + token.content.len)
                }
                Effect::Put(content) if content.is_hidden() && !self.problem.silent_hidden => {
                    window.can_observe(state, content.len)
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
        let facts = &self.problem.ops[op];
        if facts.returned.is_some() {
            self.pending.remove(op);
            self.required_left -= 1;
        }
        match self.class_of[op] {
            Some(class) => {
                self.class_used[class] += 1;
                self.usage_hash ^= scatter(op as u64);
            }
            None => self.taken_hash ^= scatter(op as u64),
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
        let facts = &self.problem.ops[op];
        if facts.returned.is_some() {
            self.pending.restore(op);
            self.required_left += 1;
        }
        match self.class_of[op] {
            Some(class) => {
                self.class_used[class] -= 1;
                self.usage_hash ^= scatter(op as u64);
            }
            None => self.taken_hash ^= scatter(op as u64),
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

impl Window {
    /// Whether something in sight may observe that hidden bytes have made the value so long, or present at all.
    fn can_observe(&self, state: State, len: u64) -> bool {
        self.hidden_len_max.is_some_and(|max| len <= max) || (self.wants_presence && !state.present)
    }
}

/// What an operation of unknown outcome asks of the next one, or it was taken in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// Not to overwrite it unnoticed.
    Notice,
    /// To observe the length or the presence of what it hid, perhaps after more of the same kind.
    Observation,
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
        Pending {
            next: (1..=count + 1).collect(),
            previous: (0..=count + 1).map(|i| i.saturating_sub(1)).collect(),
            events_of,
        }
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
