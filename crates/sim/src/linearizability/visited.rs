//! The memory of configurations that the search has been to (Lowe 2017), with one law more.
//!
//! An operation of unknown outcome need not happen. So of two configurations that differ only in which of those they have
//! used, the one that has used fewer can do all that the other one can: the other one is as good as visited.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// How many operations of each class of unknown outcome are used; classes without any are left out. Sorted.
type Usage = Vec<(usize, usize)>;

/// About 40 bytes a configuration.
#[derive(Default)]
pub(super) struct Visited {
    /// By configuration, without the usage: its last entry in `entries`.
    last: HashMap<u128, u32, BuildHasherDefault<AsIs>>,
    /// A usage, and the entry before it of the same configuration.
    entries: Vec<(u32, Option<u32>)>,
    /// By a hash of the usage: its number.
    usage_numbers: HashMap<u128, u32, BuildHasherDefault<AsIs>>,
    usages: Vec<Usage>,
}

impl Visited {
    /// Remembers a configuration; `false` if nothing new can come of it. `used` tells how many operations each class has
    /// used, and `usage_hash` stands for it.
    pub(super) fn insert(&mut self, configuration: u128, usage_hash: u128, used: &[usize]) -> bool {
        let number = self.usage_number(usage_hash, used);
        let previous = self.last.get(&configuration).copied();
        let mut at = previous;
        while let Some(index) = at {
            let (other, before) = self.entries[index as usize];
            if other == number || is_within(&self.usages[other as usize], used) {
                return false;
            }
            at = before;
        }
        let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 steps are taken");
        self.entries.push((number, previous));
        self.last.insert(configuration, index);
        true
    }

    fn usage_number(&mut self, usage_hash: u128, used: &[usize]) -> u32 {
        let next = u32::try_from(self.usages.len()).expect("fewer than 2^32 steps are taken");
        let number = *self.usage_numbers.entry(usage_hash).or_insert(next);
        if number == next {
            self.usages.push(used.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect());
        }
        number
    }
}

fn is_within(usage: &Usage, used: &[usize]) -> bool {
    usage.iter().all(|&(class, count)| count <= used[class])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_used_more_is_visited_already() {
        let mut visited = Visited::default();
        assert!(visited.insert(1, 10, &[1, 0, 2]));
        assert!(!visited.insert(1, 10, &[1, 0, 2]));
        assert!(!visited.insert(1, 11, &[1, 1, 2]));
        assert!(visited.insert(1, 12, &[2, 0, 1]));
        assert!(visited.insert(1, 13, &[0, 0, 0]));
        assert!(!visited.insert(1, 14, &[0, 7, 0]));
        assert!(visited.insert(2, 11, &[1, 1, 2]));
    }
}
