//! One key's history, made ready for the search.
//!
//! With a [`Grammar`] that reads every shown value in one way, much is known before the search starts:
//!
//! - An append whose token is shown was applied to exactly the bytes before it ([`Place::After`]).
//! - A write that no value shows leaves contents that no read meets, of which at most the length matters
//!   ([`Place::Hidden`]). If its outcome is unknown and no result depends on it either, it is left out: a run of the
//!   register with it stays possible without it.
//! - Contents that end in a token come once only, as each append takes effect once. So whatever happens to them is
//!   known too: first all reads that show them, then the one append that follows.

use std::collections::{BTreeMap, HashMap};

use super::{
    content::{Content, Fragment},
    grammar::Grammar,
    history::{Action, End, Observation, Operation},
    knowledge::{Contradiction, Knowledge},
};

/// How much of an operation is held against the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// All.
    Whole,
    /// A write: that it took effect in its time, but not what it told. A read: all.
    Silent,
    /// A write: that it was called when it was; its end counts as unknown. A read: nothing.
    Open,
    /// A write: that it may have happened, at any time. A read: nothing.
    SetAside,
}

impl Level {
    /// Whether the operation must take effect in its time.
    pub(super) fn counts(self) -> bool {
        matches!(self, Level::Whole | Level::Silent)
    }
}

/// The operations that count, and what is known about them.
pub(super) struct Problem {
    pub(super) ops: Vec<Op>,
    /// Calls and returns of the operations that must take effect, in order of time.
    pub(super) events: Vec<Event>,
    /// Operations of unknown outcome that do the same, in order of their calls: it is enough to try the first unused one
    /// of each class. Shown appends are not among them: each has its place.
    pub(super) classes: Vec<Vec<usize>>,
    /// The shown contents; empty without pruning.
    pub(super) nodes: Vec<Node>,
    /// Finds them.
    pub(super) node_of: HashMap<Content, usize>,
    /// Whether the length of hidden contents can be observed.
    lengths_matter: bool,
    /// Whether there are hidden appends that must take effect and did not tell the length.
    pub(super) silent_hidden: bool,
}

/// An operation that may or must take effect.
pub(super) struct Op {
    pub(super) effect: Effect,
    /// Position of its call in the order of events; 0 if it may be as early as need be.
    pub(super) called: usize,
    /// Position of its return; `None` if it need not take effect.
    pub(super) returned: Option<usize>,
    /// Of a read, the node it shows; of another one, the base node that it leads to again.
    pub(super) node: Option<usize>,
}

/// What an operation does, and what it has observed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    Read { present: bool, content: Content },
    Put(Content),
    Append { token: Fragment, place: Place, length: Option<u64> },
    Delete { removed: Option<bool> },
}

/// Where an append may be applied, and what comes of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// To exactly these bytes.
    After(Content),
    /// Anywhere; no read shows it.
    Hidden,
    /// Anywhere; nothing is known.
    Anywhere,
}

/// A call or a return.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) op: usize,
    pub(super) is_return: bool,
    /// In the order of all events, from 1.
    pub(super) position: usize,
}

/// Contents that some read shows, or that a shown append was applied to.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// How many reads show it.
    pub(super) reads: usize,
    /// How many operations can bring it about, besides the first start from nothing. 0 if it ends in a token.
    pub(super) sources: usize,
    /// The appends that were applied to it.
    pub(super) appends: Vec<usize>,
}

/// The key at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) present: bool,
    pub(super) content: Content,
}

impl State {
    pub(super) const ABSENT: State = State { present: false, content: Content::EMPTY };

    /// All of it in one number.
    pub(super) fn digest(&self) -> u128 {
        if self.present { self.content.digest() } else { !self.content.digest() }
    }
}

impl Problem {
    /// Of the operations on one key, each held against the register at its level.
    pub(super) fn new(history: &[&Operation], levels: &[Level]) -> Result<Problem, Contradiction> {
        let claims = claims(history, levels)?;
        let knowledge = Knowledge::of(&claims)?;
        let mut builder = Builder::new(&claims, knowledge.as_ref());
        for claim in &claims {
            builder.add(claim);
        }
        let mut problem = builder.finish();
        if let Some(knowledge) = knowledge {
            problem.nodes = knowledge.nodes;
            problem.node_of = knowledge.node_of;
            problem.link_nodes();
        }
        Ok(problem)
    }

    /// The state after `op`, or `None` if it cannot have been applied to `state` and observed what it did.
    pub(super) fn step(&self, op: usize, state: State) -> Option<State> {
        let State { present, content } = state;
        match self.ops[op].effect {
            Effect::Read { .. } => {
                let shown = Effect::Read { present, content };
                self.ops[op].effect.shows_the_same_as(&shown).then_some(state)
            }
            Effect::Put(content) => Some(State { present: true, content }),
            Effect::Append { token, place, length } => {
                if length.is_some_and(|length| content.len + token.content.len != length) {
                    return None;
                }
                let content = match place {
                    Place::After(before) if before != content => return None,
                    Place::After(_) | Place::Anywhere => content.then(&token),
                    Place::Hidden if self.lengths_matter => Content::hidden(content.len + token.content.len),
                    Place::Hidden => Content::hidden(0),
                };
                Some(State { present: true, content })
            }
            Effect::Delete { removed } => {
                removed.is_none_or(|removed| removed == present).then_some(State::ABSENT)
            }
        }
    }

    /// Turns the numbers of operations in the nodes from the history's into this problem's.
    fn link_nodes(&mut self) {
        for node in &mut self.nodes {
            node.appends.clear();
        }
        for (number, op) in self.ops.iter_mut().enumerate() {
            let content = match op.effect {
                Effect::Read { content, .. } | Effect::Put(content) => content,
                Effect::Delete { removed: Some(false) } => continue,
                Effect::Delete { .. } => Content::EMPTY,
                Effect::Append { place: Place::After(before), .. } => {
                    self.nodes[self.node_of[&before]].appends.push(number);
                    continue;
                }
                Effect::Append { .. } => continue,
            };
            op.node = self.node_of.get(&content).copied();
        }
    }
}

impl Effect {
    fn shows_the_same_as(&self, other: &Effect) -> bool {
        match (self, other) {
            (Effect::Read { present: a, content: x }, Effect::Read { present: b, content: y }) => {
                a == b && x == y
            }
            _ => false,
        }
    }
}

/// An operation as far as its level lets it count.
pub(super) struct Claim<'a> {
    /// Its number in the history.
    pub(super) number: usize,
    pub(super) action: &'a Action,
    /// `None`: as early as need be.
    pub(super) call: Option<u64>,
    /// `None`: perhaps never.
    pub(super) returned: Option<(u64, &'a Observation)>,
}

impl Claim<'_> {
    /// Of an append that returned: the length that it told.
    pub(super) fn length(&self) -> Option<u64> {
        match self.returned {
            Some((_, Observation::Length(length))) => Some(*length),
            _ => None,
        }
    }
}

/// What counts, in the order of the calls. Left out: what surely did not happen, and reads that tell nothing.
fn claims<'a>(history: &[&'a Operation], levels: &[Level]) -> Result<Vec<Claim<'a>>, Contradiction> {
    let mut claims = Vec::with_capacity(history.len());
    for (number, (operation, level)) in history.iter().zip(levels).enumerate() {
        let returned = match &operation.end {
            End::NotExecuted => continue,
            End::Returned { at, .. } if *level == Level::Silent && operation.action != Action::Get => {
                Some((*at, &Observation::Done))
            }
            End::Returned { at, result } if level.counts() => Some((*at, result)),
            End::Returned { .. } | End::Unknown => None,
        };
        let told = match (&operation.action, returned.map(|(_, result)| result)) {
            (Action::Get, None | Some(Observation::Done)) => continue,
            (_, None | Some(Observation::Done))
            | (Action::Get, Some(Observation::Value(_)))
            | (Action::Append(_), Some(Observation::Length(_)))
            | (Action::Delete, Some(Observation::Removed(_))) => true,
            _ => false,
        };
        if !told {
            return Err(Contradiction::foreign_result(number));
        }
        let call = (*level != Level::SetAside).then_some(operation.call);
        claims.push(Claim { number, action: &operation.action, call, returned });
    }
    claims.sort_by_key(|claim| claim.call);
    Ok(claims)
}

/// Words and bases of the claims, or `None` if tokens cannot be told apart.
pub(super) fn grammar<'a>(claims: &[Claim<'a>]) -> Option<Grammar<'a>> {
    let mut tokens = Vec::new();
    let mut puts = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        match claim.action {
            Action::Append(token) => tokens.push((token.as_ref(), index)),
            Action::Put(value) => puts.push(value.as_ref()),
            Action::Get | Action::Delete => {}
        }
    }
    Grammar::new(tokens, puts)
}

struct Builder<'k> {
    knowledge: Option<&'k Knowledge>,
    /// Whether an operation of unknown outcome that no read shows may matter: some result depends on the length or
    /// presence of hidden contents.
    hidden_matter: bool,
    lengths_matter: bool,
    /// Per claim, in their order: positions of call and return among all events.
    positions: std::vec::IntoIter<(usize, usize)>,
    /// The next claim.
    claim: usize,
    ops: Vec<Op>,
    events: Vec<Event>,
    classes: BTreeMap<ClassKey, Vec<usize>>,
}

/// What two operations of unknown outcome have in common if it does not matter which of them happened.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ClassKey {
    Delete,
    Put(u64, u128),
    Append(u64, u128),
}

impl<'k> Builder<'k> {
    fn new(claims: &[Claim<'_>], knowledge: Option<&'k Knowledge>) -> Builder<'k> {
        let shown = |index: usize| knowledge.is_some_and(|knowledge| knowledge.applied_to[index].is_some());
        let lengths_matter =
            claims.iter().enumerate().any(|(index, claim)| claim.length().is_some() && !shown(index));
        let presence_matters =
            claims.iter().any(|claim| matches!(claim.returned, Some((_, Observation::Removed(true)))));
        Builder {
            knowledge,
            hidden_matter: lengths_matter || presence_matters,
            lengths_matter,
            positions: positions(claims).into_iter(),
            claim: 0,
            ops: Vec::with_capacity(claims.len()),
            events: Vec::with_capacity(2 * claims.len()),
            classes: BTreeMap::new(),
        }
    }

    fn add(&mut self, claim: &Claim<'_>) {
        let (called, return_position) =
            self.positions.next().expect("there is a pair of positions per claim");
        let effect = self.effect(claim);
        self.claim += 1;
        let hidden = match effect {
            Effect::Put(content) => content.is_hidden(),
            Effect::Append { place, .. } => matches!(place, Place::Hidden),
            Effect::Read { .. } | Effect::Delete { .. } => false,
        };
        if claim.returned.is_none() && hidden && !self.hidden_matter {
            return;
        }
        let op = self.ops.len();
        let mut returned = None;
        if claim.returned.is_some() {
            self.events.push(Event { op, is_return: false, position: called });
            self.events.push(Event { op, is_return: true, position: return_position });
            returned = Some(return_position);
        } else if let Some(class) = ClassKey::of(&effect) {
            self.classes.entry(class).or_default().push(op);
        }
        self.ops.push(Op { effect, called, returned, node: None });
    }

    fn effect(&self, claim: &Claim<'_>) -> Effect {
        match claim.action {
            Action::Get => match (claim.returned, self.knowledge) {
                (Some((_, Observation::Value(Some(_)))), Some(knowledge)) => {
                    Effect::Read { present: true, content: knowledge.shown[self.claim] }
                }
                (Some((_, Observation::Value(Some(value)))), None) => {
                    Effect::Read { present: true, content: Content::of(value) }
                }
                _ => Effect::Read { present: false, content: Content::EMPTY },
            },
            Action::Put(value) => {
                let content = Content::of(value);
                match self.knowledge {
                    Some(knowledge) if !knowledge.node_of.contains_key(&content) => {
                        Effect::Put(Content::hidden(if self.lengths_matter { content.len } else { 0 }))
                    }
                    _ => Effect::Put(content),
                }
            }
            Action::Append(token) => {
                let place = match self.knowledge {
                    None => Place::Anywhere,
                    Some(knowledge) => knowledge.applied_to[self.claim].map_or(Place::Hidden, Place::After),
                };
                Effect::Append { token: Fragment::of(token), place, length: claim.length() }
            }
            Action::Delete => match claim.returned {
                Some((_, Observation::Removed(removed))) => Effect::Delete { removed: Some(*removed) },
                _ => Effect::Delete { removed: None },
            },
        }
    }

    fn finish(mut self) -> Problem {
        self.events.sort_by_key(|event| event.position);
        let silent_hidden = self.ops.iter().any(|op| {
            op.returned.is_some()
                && matches!(op.effect, Effect::Append { place: Place::Hidden, length: None, .. })
        });
        Problem {
            silent_hidden,
            ops: self.ops,
            events: self.events,
            classes: self.classes.into_values().collect(),
            nodes: Vec::new(),
            node_of: HashMap::new(),
            lengths_matter: self.lengths_matter,
        }
    }
}

impl ClassKey {
    /// `None` for a shown append, which has its place.
    fn of(effect: &Effect) -> Option<ClassKey> {
        match effect {
            Effect::Read { .. } => None,
            Effect::Delete { .. } => Some(ClassKey::Delete),
            Effect::Put(content) => Some(ClassKey::Put(content.len, content.digest())),
            Effect::Append { place: Place::After(_), .. } => None,
            Effect::Append { token, place: Place::Hidden, .. } => {
                Some(ClassKey::Append(token.content.len, 0))
            }
            Effect::Append { token, place: Place::Anywhere, .. } => {
                Some(ClassKey::Append(token.content.len, token.content.digest()))
            }
        }
    }
}

/// For each claim the positions of its call (0: as early as need be) and its return (0: perhaps never) among all events.
/// At the same time calls go before returns, so that operations which only touch count as concurrent.
fn positions(claims: &[Claim<'_>]) -> Vec<(usize, usize)> {
    let mut events = Vec::with_capacity(2 * claims.len());
    for (index, claim) in claims.iter().enumerate() {
        events.extend(claim.call.map(|call| (call, false, index)));
        events.extend(claim.returned.map(|(at, _)| (at, true, index)));
    }
    events.sort_unstable();
    let mut positions = vec![(0, 0); claims.len()];
    for (position, (_, is_return, index)) in events.into_iter().enumerate() {
        if is_return {
            positions[index].1 = position + 1;
        } else {
            positions[index].0 = position + 1;
        }
    }
    positions
}
