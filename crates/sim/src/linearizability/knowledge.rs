//! What the shown values tell about the order of one key's writes, before any search.

use std::collections::HashMap;

use super::{
    content::{Content, Fragment},
    grammar::{Reader, Reading},
    history::{Action, Observation},
    problem::{Claim, Node, grammar},
};

/// Why no order can explain the results: found without a search.
#[derive(Debug)]
pub(super) struct Contradiction {
    pub(super) kind: ContradictionKind,
    /// Numbers, in the history, of the operations that contradict one another.
    pub(super) culprits: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContradictionKind {
    /// An operation was answered with a result that its action never gives.
    ForeignResult,
    /// A value that the writes cannot produce was shown.
    NeverWritten,
    /// Two shown values disagree about what stood before a token, or about which token came next.
    Disagreement,
    /// An append told a length that the shown values refute.
    WrongLength,
}

impl Contradiction {
    pub(super) fn foreign_result(number: usize) -> Contradiction {
        Contradiction { kind: ContradictionKind::ForeignResult, culprits: vec![number] }
    }
}

/// What is known of one key's claims. Numbers are positions in the slice of claims.
pub(super) struct Knowledge {
    /// Per claim: of a shown append, what it was applied to.
    pub(super) applied_to: Vec<Option<Content>>,
    /// Per claim: of a read, what it shows.
    pub(super) shown: Vec<Content>,
    /// The shown contents and all that they grew from.
    pub(super) nodes: Vec<Node>,
    /// Finds them.
    pub(super) node_of: HashMap<Content, usize>,
}

impl Knowledge {
    /// `None` if the values cannot be read in one way: then there is nothing to prune with.
    pub(super) fn of(claims: &[Claim<'_>]) -> Result<Option<Knowledge>, Contradiction> {
        let Some(grammar) = grammar(claims) else { return Ok(None) };
        let mut gatherer = Gatherer {
            claims,
            knowledge: Knowledge {
                applied_to: vec![None; claims.len()],
                shown: vec![Content::EMPTY; claims.len()],
                nodes: vec![Node::default()],
                node_of: HashMap::from([(Content::EMPTY, 0)]),
            },
            witnesses: vec![0; claims.len()],
            path: Vec::new(),
        };
        let mut reader = Reader::new(&grammar);
        let mut impossible = None;
        for (read, claim) in claims.iter().enumerate() {
            let Some((_, Observation::Value(value))) = claim.returned else { continue };
            let Some(value) = value else {
                gatherer.knowledge.nodes[0].reads += 1;
                continue;
            };
            match reader.read(value) {
                Reading::Unique { kept } => gatherer.on_value(read, value, &reader, kept)?,
                Reading::Ambiguous => return Ok(None),
                Reading::Impossible => {
                    impossible.get_or_insert(claim.number);
                }
            }
        }
        if let Some(read) = impossible {
            return Err(Contradiction { kind: ContradictionKind::NeverWritten, culprits: vec![read] });
        }
        gatherer.count_sources();
        gatherer.check_followers()?;
        Ok(Some(gatherer.knowledge))
    }
}

struct Gatherer<'c, 'a> {
    claims: &'c [Claim<'a>],
    knowledge: Knowledge,
    /// Per claim: of a shown append, the first read that showed it.
    witnesses: Vec<usize>,
    /// The contents after each word of the value read last.
    path: Vec<Content>,
}

impl Gatherer<'_, '_> {
    /// A read showed a value that reads in one way.
    fn on_value(
        &mut self,
        read: usize,
        value: &[u8],
        reader: &Reader,
        kept: usize,
    ) -> Result<(), Contradiction> {
        self.path.truncate(kept);
        let mut content = match self.path.last() {
            Some(content) => *content,
            None => Content::of(&value[..reader.base_len()]),
        };
        self.node(content);
        for word in &reader.words()[kept..] {
            self.on_append(read, word.op, content)?;
            let Action::Append(token) = self.claims[word.op].action else {
                unreachable!("the grammar's tokens are those of appends")
            };
            content = content.then(&Fragment::of(token));
            self.node(content);
            self.path.push(content);
        }
        let node = self.node(content);
        self.knowledge.nodes[node].reads += 1;
        self.knowledge.shown[read] = content;
        Ok(())
    }

    /// `read` shows that `append` was applied to `before`.
    fn on_append(&mut self, read: usize, append: usize, before: Content) -> Result<(), Contradiction> {
        let claim = &self.claims[append];
        match self.knowledge.applied_to[append] {
            Some(known) if known == before => return Ok(()),
            Some(_) => {
                let culprits =
                    vec![self.claims[self.witnesses[append]].number, self.claims[read].number, claim.number];
                return Err(Contradiction { kind: ContradictionKind::Disagreement, culprits });
            }
            None => {}
        }
        let after_len = before.len + claim.action.written().map_or(0, |token| token.len() as u64);
        if claim.length().is_some_and(|length| length != after_len) {
            let culprits = vec![self.claims[read].number, claim.number];
            return Err(Contradiction { kind: ContradictionKind::WrongLength, culprits });
        }
        self.knowledge.applied_to[append] = Some(before);
        self.witnesses[append] = read;
        let node = self.node(before);
        self.knowledge.nodes[node].appends.push(append);
        Ok(())
    }

    fn node(&mut self, content: Content) -> usize {
        let next = self.knowledge.nodes.len();
        let node = *self.knowledge.node_of.entry(content).or_insert(next);
        if node == next {
            self.knowledge.nodes.push(Node::default());
        }
        node
    }

    /// Counts, per node, the operations that can bring it about other than by an append.
    fn count_sources(&mut self) {
        for claim in self.claims {
            let content = match (claim.action, claim.returned) {
                (Action::Delete, Some((_, Observation::Removed(false)))) => continue,
                (Action::Delete, _) => Content::EMPTY,
                (Action::Put(value), _) => Content::of(value),
                (Action::Get | Action::Append(_), _) => continue,
            };
            if let Some(&node) = self.knowledge.node_of.get(&content) {
                self.knowledge.nodes[node].sources += 1;
            }
        }
    }

    /// Contents that come n times are followed by n different appends at most.
    fn check_followers(&self) -> Result<(), Contradiction> {
        for (index, node) in self.knowledge.nodes.iter().enumerate() {
            let occurrences = if index == 0 { node.sources + 1 } else { node.sources.max(1) };
            if node.appends.len() > occurrences {
                let followers = &node.appends[..=occurrences];
                let appends = followers.iter().map(|&append| self.claims[append].number);
                let reads = followers.iter().map(|&append| self.claims[self.witnesses[append]].number);
                let culprits = appends.chain(reads).collect();
                return Err(Contradiction { kind: ContradictionKind::Disagreement, culprits });
            }
        }
        Ok(())
    }
}
