//! Which writes a shown value is made of.
//!
//! A value is what the last `Put` wrote (nothing, if the key was absent before) and the tokens appended since. If no
//! token begins another one, what follows a given base can be cut into tokens in one way at most; so a value that has
//! one base only is explained by one sequence of writes, and each of its tokens was appended to exactly what stands
//! before it. That is the knowledge the search is pruned with. Where it is not to be had, there is no pruning.

use std::mem;

/// The words that values can be made of.
pub(super) struct Grammar<'a> {
    /// Sorted; none is empty or begins another.
    tokens: Vec<(&'a [u8], usize)>,
    /// Sorted, without duplicates.
    bases: Vec<Base<'a>>,
}

struct Base<'a> {
    bytes: &'a [u8],
    /// The longest other base that begins this one.
    parent: Option<usize>,
}

impl<'a> Grammar<'a> {
    /// From the appended tokens, each with its operation's number, and the values that were put. `None` if the tokens
    /// cannot be told apart: two are equal, one begins another, or one is empty.
    pub(super) fn new(mut tokens: Vec<(&'a [u8], usize)>, mut puts: Vec<&'a [u8]>) -> Option<Grammar<'a>> {
        tokens.sort_unstable();
        // Whatever begins with a token follows it directly in this order.
        let distinct = tokens.windows(2).all(|pair| !pair[1].0.starts_with(pair[0].0));
        if !distinct || tokens.first().is_some_and(|(bytes, _)| bytes.is_empty()) {
            return None;
        }
        puts.push(b"");
        puts.sort_unstable();
        puts.dedup();
        let mut bases: Vec<Base<'a>> = Vec::with_capacity(puts.len());
        for bytes in puts {
            let mut parent = bases.len().checked_sub(1);
            while let Some(index) = parent
                && !bytes.starts_with(bases[index].bytes)
            {
                parent = bases[index].parent;
            }
            bases.push(Base { bytes, parent });
        }
        Some(Grammar { tokens, bases })
    }

    /// The lengths of all bases that `value` begins with, longest first.
    fn base_lens(&self, value: &[u8]) -> impl Iterator<Item = usize> {
        // Any base that begins `value` also begins the greatest base that is not above `value`.
        let above = self.bases.partition_point(|base| base.bytes <= value);
        let mut next = above.checked_sub(1);
        std::iter::from_fn(move || {
            let base = &self.bases[next?];
            next = base.parent;
            Some(base.bytes)
        })
        .filter(move |bytes| value.starts_with(bytes))
        .map(<[u8]>::len)
    }

    /// The only token that `rest` can begin with.
    fn token_at(&self, rest: &[u8]) -> Option<(&'a [u8], usize)> {
        let above = self.tokens.partition_point(|(bytes, _)| *bytes <= rest);
        let candidate = self.tokens[above.checked_sub(1)?];
        rest.starts_with(candidate.0).then_some(candidate)
    }
}

/// How a value reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// In one way: see [`Reader::base_len`] and [`Reader::words`].
    Unique {
        /// So many of its first words are those of the value read before, under the same base.
        kept: usize,
    },
    /// In several ways.
    Ambiguous,
    /// In none: nobody wrote this.
    Impossible,
}

/// A token within a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// The number of the operation that appended it.
    pub(super) op: usize,
    /// Where it ends in the value.
    end: usize,
}

/// Reads values one after the other. Each usually continues the one before, of which it keeps what they share.
pub(super) struct Reader<'g, 'a> {
    grammar: &'g Grammar<'a>,
    previous: &'a [u8],
    base_len: usize,
    words: Vec<Word>,
}

impl<'g, 'a> Reader<'g, 'a> {
    pub(super) fn new(grammar: &'g Grammar<'a>) -> Reader<'g, 'a> {
        Reader { grammar, previous: b"", base_len: 0, words: Vec::new() }
    }

    /// The length of the base of the value just read.
    pub(super) fn base_len(&self) -> usize {
        self.base_len
    }

    /// The tokens after the base of the value just read.
    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    pub(super) fn read(&mut self, value: &'a [u8]) -> Reading {
        let alike = common_prefix_len(self.previous, value);
        let mut old = mem::take(&mut self.words);
        let old_base_len = mem::replace(&mut self.base_len, 0);
        self.previous = b"";
        let mut found = None;
        for base_len in self.grammar.base_lens(value) {
            let mut words = Vec::new();
            if base_len == old_base_len && base_len <= alike {
                words = mem::take(&mut old);
                words.truncate(words.partition_point(|word| word.end <= alike));
            }
            let kept = words.len();
            if !self.cut(value, base_len, &mut words) {
                continue;
            }
            if found.is_some() {
                return Reading::Ambiguous;
            }
            found = Some((base_len, words, kept));
        }
        let Some((base_len, words, kept)) = found else { return Reading::Impossible };
        (self.base_len, self.words, self.previous) = (base_len, words, value);
        Reading::Unique { kept: if base_len == old_base_len { kept } else { 0 } }
    }

    /// Cuts the rest of `value` into tokens; whether that works out.
    fn cut(&self, value: &[u8], base_len: usize, words: &mut Vec<Word>) -> bool {
        let mut end = words.last().map_or(base_len, |word| word.end);
        while end < value.len() {
            let Some((bytes, op)) = self.grammar.token_at(&value[end..]) else { return false };
            end += bytes.len();
            words.push(Word { op, end });
        }
        true
    }
}

/// How many bytes at the start of both are the same.
pub(super) fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    const STRIDE: usize = 256;
    let strides = a.chunks_exact(STRIDE).zip(b.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count();
    let start = strides * STRIDE;
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grammar<'a>(tokens: &[&'a str], puts: &[&'a str]) -> Option<Grammar<'a>> {
        let tokens = tokens.iter().enumerate().map(|(op, token)| (token.as_bytes(), op)).collect();
        Grammar::new(tokens, puts.iter().map(|put| put.as_bytes()).collect())
    }

    fn ops(reader: &Reader) -> Vec<usize> {
        reader.words().iter().map(|word| word.op).collect()
    }

    #[test]
    fn tokens_that_cannot_be_told_apart_make_no_grammar() {
        assert!(grammar(&["ab", "cd"], &[]).is_some());
        assert!(grammar(&["ab", "ab"], &[]).is_none());
        assert!(grammar(&["ab", "x", "abc"], &[]).is_none());
        assert!(grammar(&["ab", ""], &[]).is_none());
    }

    #[test]
    fn a_value_reads_as_base_and_tokens() {
        let grammar = grammar(&["<1>", "<2>", "<3>"], &["p", "pq"]).unwrap();
        let mut reader = Reader::new(&grammar);
        assert_eq!(reader.read(b"pq<2><1>"), Reading::Unique { kept: 0 });
        assert_eq!((reader.base_len(), ops(&reader)), (2, vec![1, 0]));
        assert_eq!(reader.read(b"pq<2><3>"), Reading::Unique { kept: 1 });
        assert_eq!((reader.base_len(), ops(&reader)), (2, vec![1, 2]));
        assert_eq!(reader.read(b"p<2>"), Reading::Unique { kept: 0 });
        assert_eq!((reader.base_len(), ops(&reader)), (1, vec![1]));
        assert_eq!(reader.read(b"<2>"), Reading::Unique { kept: 0 });
        assert_eq!((reader.base_len(), ops(&reader)), (0, vec![1]));
        assert_eq!(reader.read(b"<2"), Reading::Impossible);
        assert_eq!(reader.read(b"q<2>"), Reading::Impossible);
        assert_eq!(reader.read(b""), Reading::Unique { kept: 0 });
    }

    #[test]
    fn a_value_that_was_put_or_appended_is_ambiguous() {
        let grammar = grammar(&["<1>", "<2>"], &["<1>"]).unwrap();
        let mut reader = Reader::new(&grammar);
        assert_eq!(reader.read(b"<1><2>"), Reading::Ambiguous);
        assert_eq!(reader.read(b"<2>"), Reading::Unique { kept: 0 });
    }

    #[test]
    fn the_common_prefix_is_exact_around_strides() {
        for len in [0, 1, 255, 256, 257, 512, 700] {
            let a = vec![7; len];
            assert_eq!(common_prefix_len(&a, &a), len);
            for at in [0, len / 2, len.saturating_sub(1)] {
                let mut b = a.clone();
                if let Some(byte) = b.get_mut(at) {
                    *byte = 8;
                    assert_eq!(common_prefix_len(&a, &b), at);
                }
            }
        }
    }
}
