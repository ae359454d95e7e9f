//! The changes that parsers stumble over.

use std::ops::Range;

use crate::Random;

/// What stands in our formats where a parser decides.
const PIECES: [&[u8]; 14] = [
    b"\r\n",
    b"\r",
    b"\n",
    b"*",
    b"$",
    b"-1",
    b"\"",
    b"*1\r\n",
    b"$0\r\n\r\n",
    b"%1\r\n",
    b"PONT",
    b"\xff\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\0\0\0\0",
];

/// One of the inputs, changed in one to four places.
pub fn change(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(inputs).clone();
    for _ in 0..1 + random.below(4) {
        change_once(&mut bytes, inputs, random);
    }
    bytes
}

fn change_once(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(12) {
        0 => bytes.truncate(at),
        1 => insert(bytes, at, &[random.number() as u8]),
        2 => insert(bytes, at, PIECES[random.below(PIECES.len())]),
        3 => {
            let noise = 1 + random.below(8);
            insert(bytes, at, &random.bytes(noise));
        }
        4 => drop(bytes.drain(stretch(bytes, at, 8, random))),
        5 => {
            let repeated = bytes[stretch(bytes, at, 30, random)].to_vec();
            insert(bytes, at, &repeated);
        }
        6 => {
            // The front of one and the back of another.
            let other = random.pick(inputs);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        7 => change_decimal(bytes, at, random),
        8 => change_varint(bytes, at, random),
        9 => change_fixed(bytes, at, random),
        _ if at == bytes.len() => {}
        10 => bytes[at] = random.number() as u8,
        _ => bytes[at] ^= 1 << random.below(8),
    }
}

/// From `at`, up to so many bytes.
fn stretch(bytes: &[u8], at: usize, bytes_max: usize, random: &mut Random) -> Range<usize> {
    at..(at + 1 + random.below(bytes_max)).min(bytes.len())
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Takes what lies here for a length of fixed width.
fn change_fixed(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = *random.pick(&[1, 2, 4, 8]);
    let rest = bytes.len() - at;
    let Some(field) = bytes[at..].get_mut(..width) else { return };
    let big_endian = random.below(4) == 0;
    if big_endian {
        field.reverse();
    }
    let mut number = [0; 8];
    number[..width].copy_from_slice(field);
    let changed = other_length(u64::from_le_bytes(number), rest, random).to_le_bytes();
    field.copy_from_slice(&changed[..width]);
    if big_endian {
        field.reverse();
    }
}

/// Takes what lies here for a number of seven bits a byte.
fn change_varint(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let width = bytes[at..].iter().take(9).take_while(|byte| **byte >= 0x80).count() + 1;
    let end = (at + width).min(bytes.len());
    let number = bytes[at..end].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
    let mut changed = other_length(number, bytes.len() - end, random);
    let mut field = Vec::new();
    while changed >= 0x80 {
        field.push(changed as u8 | 0x80);
        changed >>= 7;
    }
    field.push(changed as u8);
    bytes.splice(at..end, field);
}

/// Changes the next decimal number.
fn change_decimal(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|skipped| at + skipped) else {
        return;
    };
    let end = start + bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[start..end]).expect("digits").parse().unwrap_or(u64::MAX);
    let changed = other_length(number, bytes.len() - end, random);
    bytes.splice(start..end, changed.to_string().into_bytes());
}

/// A length near the true one, near what is left, or near a bound of the type.
fn other_length(number: u64, rest: usize, random: &mut Random) -> u64 {
    let rest = rest as u64;
    let near = [number, rest, 0, 1 << 7, 1 << 14, 1 << 15, 1 << 16, 1 << 29, 1 << 31, 1 << 32, 1 << 63];
    match random.below(8) {
        0 => random.number() >> random.below(64),
        1 => u64::MAX,
        _ => random.pick(&near).wrapping_add(random.below(3) as u64).wrapping_sub(1),
    }
}
