//! Conversations in rows of a batch: one a row with padding behind it, or several, each as if it were alone.
//!
//! A conversation of n tokens takes n - 1 positions: every token but the last is an input, every one but the first a
//! target. So no target is the first token of a conversation, positions begin at 0 in each, and attention does not go
//! beyond its first position: the loss and gradients of a packed batch are those of its conversations alone.

use super::Encoded;
use crate::data::batch::{IGNORED, Row};
use std::collections::BTreeMap;

/// A row of `length` positions with these conversations, one after the other, and padding, which no conversation sees
/// and which sees none.
///
/// # Panics
/// If they have more tokens than the row has room for.
pub fn row<'e>(conversations: impl IntoIterator<Item = &'e Encoded>, length: usize) -> Row {
    let mut row = Row::padding(length);
    let mut start = 0;
    for Encoded { ids, counted } in conversations {
        let n = ids.len().saturating_sub(1);
        let here = start..start + n;
        row.ids[here.clone()].copy_from_slice(&ids[..n]);
        for (i, at) in here.clone().enumerate() {
            row.targets[at] = if counted[i + 1] { ids[i + 1] } else { IGNORED };
            row.positions[at] = i as u32;
        }
        row.document_start[here.clone()].fill(start as u32);
        row.real[here].fill(1);
        start += n;
    }
    row
}

/// Rows for conversations of these numbers of positions, best fit: the longest first, each into the fullest row that
/// has room for it. Gives the numbers of the conversations of each row.
pub fn best_fit(sizes: &[usize], length: usize) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..sizes.len() as u32).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sizes[i as usize])); // stable: of equals the first first
    let mut rows: Vec<Vec<u32>> = Vec::new();
    // Room that is left to the rows that have so much.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in order {
        let size = sizes[i as usize];
        let fullest = open.range(size..).next().map(|(room, _)| *room);
        let (row, room) = match fullest {
            Some(room) => (take(&mut open, room), room),
            None => {
                rows.push(Vec::new());
                (rows.len() - 1, length)
            }
        };
        rows[row].push(i);
        open.entry(room.saturating_sub(size)).or_default().push(row);
    }
    rows
}

/// Takes one of the rows that have just `room`.
fn take(open: &mut BTreeMap<usize, Vec<usize>>, room: usize) -> usize {
    let rows = open.get_mut(&room).map_or(&mut [][..], |rows| rows);
    let row = rows.last().copied().unwrap_or_default();
    let left = rows.len() - 1;
    match left {
        0 => drop(open.remove(&room)),
        _ => drop(open.get_mut(&room).map(|rows| rows.pop())),
    }
    row
}
