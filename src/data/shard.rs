//! Opens files of token numbers: `.bin`, with or without a header, and `.npy`.

use super::blocks::read_at;
use super::files::{Found, ending};
use super::tokens::{Store, Tokens, Width};
use crate::config::data::TokenType;
use crate::error::{Error, Result};
use crate::input::{self, quoted as shown};
use std::fs::File;

/// Header of llm.c's and modded-nanogpt's shards: 256 words of 32 bits, of which the first are a mark, the version and
/// the number of tokens; mark and version tell the width.
const HEADER_WORDS: usize = 256;
const MARKS: [(u32, u32, Width); 2] = [(20_240_520, 1, Width::U16), (20_240_801, 7, Width::U32)];
/// Bytes by which `auto` tells 16 bits from 32.
const PROBED: usize = 64 << 10;
/// Longest header of an `.npy` file.
const MAX_NPY_HEADER: usize = 1 << 20;
/// Most axes of an array, numpy's own limit.
const MAX_AXES: usize = 64;

/// The tokens of `found`, whose ids are to be below `vocab`. Only headers are looked at.
///
/// # Errors
/// If the header is broken, or promises another number of bytes than there are.
pub fn open(found: &Found, token_type: TokenType, vocab: usize) -> Result<Tokens> {
    let file = input::open(&found.path)?;
    let layout = if ending(&found.path) == "npy" { npy(found, &file) } else { bin(found, &file, token_type, vocab) };
    let (offset, width, count) = layout?;
    let (is, needed) = (found.bytes, u128::from(offset) + u128::from(count) * width.bytes() as u128);
    if u128::from(is) != needed {
        let end = if u128::from(is) < needed { "is cut off" } else { "goes on past its end" };
        let reason = format!(
            "{end}: its header promises {count} tokens of {} bytes from byte {offset} on, {needed} bytes in all, but \
             it has {is}; copy it again",
            width.bytes()
        );
        return Err(Error::file(&found.path, reason));
    }
    Ok(Tokens { path: found.path.clone(), store: Store::Named, offset, width, count, vocab })
}

fn head(found: &Found, file: &File, bytes: usize) -> Result<Vec<u8>> {
    let mut head = vec![0; (found.bytes as usize).min(bytes)];
    read_at(file, &mut head, 0).map_err(|e| Error::io(&found.path, e))?;
    Ok(head)
}

/// First byte of the numbers, their width and count.
type Layout = (u64, Width, u64);

fn bin(found: &Found, file: &File, token_type: TokenType, vocab: usize) -> Result<Layout> {
    let head = head(found, file, PROBED)?;
    let word = |i: usize| head.get(4 * i..4 * i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let [mark, version, count] = [0, 1, 2].map(word);
    if let Some((mark, known, width)) = MARKS.into_iter().find(|(m, _, _)| mark == Some(*m))
        && head.len() >= 4 * HEADER_WORDS
    {
        if version != Some(known) {
            let is = version.unwrap_or(0);
            let reason =
                format!("has the mark {mark} of a token shard, but version {is}; version {known} is understood");
            return Err(Error::file(&found.path, reason));
        }
        return Ok((4 * HEADER_WORDS as u64, width, count.unwrap_or(0).into()));
    }
    let width = match token_type {
        TokenType::U16 => Width::U16,
        TokenType::U32 => Width::U32,
        TokenType::Auto => probe(&head, found.bytes, vocab),
    };
    if !found.bytes.is_multiple_of(width.bytes() as u64) {
        let (bytes, size) = (found.bytes, width.bytes());
        let reason = format!(
            "has {bytes} bytes, no whole number of tokens of {size} bytes; copy it again, or set data.token_type"
        );
        return Err(Error::file(&found.path, reason));
    }
    Ok((0, width, found.bytes / width.bytes() as u64))
}

/// Numbers of 32 bits look like pairs of 16 whose second is always 0, and numbers of 64 bits, which numpy writes unless
/// it is told otherwise, like such pairs of 32; no text has such tokens.
fn probe(head: &[u8], bytes: u64, vocab: usize) -> Width {
    let padded = |size: usize| {
        let numbers = || head.chunks_exact(size);
        let empty = |number: &[u8]| number[size / 2..].iter().all(|&byte| byte == 0);
        bytes.is_multiple_of(size as u64) && numbers().len() >= 2 && numbers().all(empty)
    };
    // Of zeros alone nothing tells how wide they are.
    match (padded(8) && head.iter().any(|&byte| byte != 0), padded(4)) {
        (true, _) => Width::U64,
        (false, true) => Width::U32,
        (false, false) => Width::of(vocab),
    }
}

fn npy(found: &Found, file: &File) -> Result<Layout> {
    let bad = |reason: String| Error::file(&found.path, reason);
    let head = head(found, file, MAX_NPY_HEADER)?;
    let start = match head.get(..8) {
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 1, _]) => 10,
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _]) => 12,
        _ => return Err(bad("does not begin as an .npy file of version 1 to 3 does".to_owned())),
    };
    let length = head.get(8..start).map(|b| b.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)));
    let Some(text) = length.and_then(|n| head.get(start..start.checked_add(n)?)) else {
        return Err(bad(format!("is cut off in its header: it has {} bytes; copy it again", found.bytes)));
    };
    let text = String::from_utf8_lossy(text);
    let descr = quoted(&text, "descr").unwrap_or_default();
    let width = match descr {
        "<u2" => Width::U16,
        "<u4" => Width::U32,
        "<i4" => Width::I32,
        "<u8" => Width::U64,
        "<i8" => Width::I64,
        _ => {
            let known = "uint16, uint32, int32, uint64 or int64, lowest byte first";
            return Err(bad(format!(
                "holds numbers of type {} (descr in its header); tokens are {known}",
                shown(descr)
            )));
        }
    };
    let shape = value(&text, "shape").and_then(|v| v.strip_prefix('(')).and_then(|v| v.split_once(')'));
    let dimensions = shape.map(|(inside, _)| inside.split(',').map(str::trim).filter(|n| !n.is_empty()));
    let parsed: Option<Vec<u64>> = dimensions.and_then(|all| all.map(|n| n.parse().ok()).collect());
    let Some(shape) = parsed else { return Err(bad("has no shape in its header".to_owned())) };
    if shape.len() > MAX_AXES {
        return Err(bad(format!("has {} axes in its header, more than {MAX_AXES}", shape.len())));
    }
    if shape.len() > 1 && value(&text, "fortran_order").is_some_and(|v| v.starts_with("True")) {
        return Err(bad("has its columns one after the other (fortran_order); save it row by row".to_owned()));
    }
    let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n <= u64::MAX / 16);
    let count = count.ok_or_else(|| bad(format!("has a shape too large to be: {shape:?}")))?;
    Ok(((start + length.unwrap_or(0)) as u64, width, count))
}

/// What follows `'key':` in the header.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("'{key}'"))?;
    after.trim_start().strip_prefix(':').map(str::trim_start)
}

fn quoted<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    value(text, key)?.strip_prefix('\'')?.split_once('\'').map(|(inside, _)| inside)
}
