//! What kernels take for granted of the integers that they read: indices that lie within what they point into, lists in
//! the order that a kernel's walk over them relies on. A kernel that states its contract has it checked before every
//! dispatch on the CPU, and in the tests for every generated case; a broken one is a fault of what made the integers.

use super::latent_attention::NO_SLOT;

/// Content of a binding before a dispatch.
#[derive(Clone, Copy, Debug)]
pub enum Held<'a> {
    /// So many floats.
    Real(usize),
    /// Integers.
    Index(&'a [u32]),
}

impl<'a> Held<'a> {
    /// The integers; none of floats.
    pub fn list(self) -> &'a [u32] {
        match self {
            Held::Real(_) => &[],
            Held::Index(list) => list,
        }
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        match self {
            Held::Real(n) => n,
            Held::Index(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Whether a contract holds; if not, what breaks it, in words that follow the kernel's name.
pub type Kept = Result<(), String>;

/// Fails with what `reason` says unless `holds`.
pub fn require(holds: bool, reason: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Every number of a list is below `end`.
pub fn below(name: &str, list: &[u32], end: usize) -> Kept {
    let found = list.iter().position(|&x| x as usize >= end);
    require(found.is_none(), || {
        let at = found.unwrap_or_default();
        format!("{name}[{at}] is {}, not below {end}", list[at])
    })
}

/// A list never falls.
pub fn rises(name: &str, list: &[u32]) -> Kept {
    let found = list.windows(2).position(|pair| pair[1] < pair[0]);
    require(found.is_none(), || {
        let at = found.unwrap_or_default();
        format!("{name} falls from {} to {} at {}", list[at], list[at + 1], at + 1)
    })
}

/// First places of the runs that `end` elements are cut into, and their end.
pub fn offsets(name: &str, list: &[u32], end: usize) -> Kept {
    rises(name, list)?;
    let ends = (list.first().copied(), list.last().map(|&last| last as usize));
    require(ends == (Some(0), Some(end)), || {
        format!("{name} goes from {:?} to {:?}, not from 0 to {end}", ends.0, ends.1)
    })
}

/// A list holds every number below its length once.
pub fn permutation(name: &str, list: &[u32]) -> Kept {
    below(name, list, list.len())?;
    let mut seen = vec![false; list.len()];
    let twice = list.iter().find(|&&x| std::mem::replace(&mut seen[x as usize], true));
    require(twice.is_none(), || format!("{name} holds {} twice", twice.copied().unwrap_or_default()))
}

/// Along each sequence of `length` tokens `document_start` never falls, and no token's document begins behind it:
/// shaders leave out tiles by what the first query of a tile sees.
pub fn documents(document_start: &[u32], length: usize) -> Kept {
    for (number, starts) in document_start.chunks(length.max(1)).enumerate() {
        let of_sequence = |reason: String| format!("{reason} in sequence {number}");
        rises("document_start", starts).map_err(of_sequence)?;
        let ahead = starts.iter().enumerate().find(|&(at, &start)| start as usize > at);
        require(ahead.is_none(), || of_sequence(format!("a document begins behind its token: {ahead:?}")))?;
    }
    Ok(())
}

/// Rows with a slot have a place in a cache of `lines` lines, `capacity` to a slot.
pub fn places(slots: &[u32], positions: &[u32], capacity: usize, lines: usize) -> Kept {
    let taken = slots.iter().zip(positions).filter(|(slot, _)| **slot != NO_SLOT);
    for (&slot, &position) in taken {
        let fits = (position as usize) < capacity && slot as usize * capacity + (position as usize) < lines;
        require(fits, || format!("position {position} of slot {slot} lies outside of a cache of {lines} lines"))?;
    }
    Ok(())
}

/// No two rows with a slot have the same place.
pub fn places_apart(slots: &[u32], positions: &[u32]) -> Kept {
    let mut taken: Vec<_> = slots.iter().zip(positions).filter(|(slot, _)| **slot != NO_SLOT).collect();
    taken.sort_unstable();
    let twice = taken.windows(2).find(|pair| pair[0] == pair[1]);
    require(twice.is_none(), || format!("two rows share the place {twice:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_contract_is_named() {
        let cases = [
            (below("ids", &[0, 4, 2], 4), "ids[1] is 4, not below 4"),
            (rises("offsets", &[0, 3, 2]), "offsets falls from 3 to 2 at 2"),
            (offsets("offsets", &[0, 3], 4), "offsets goes from Some(0) to Some(3), not from 0 to 4"),
            (permutation("slot_pair", &[1, 1]), "slot_pair holds 1 twice"),
            (documents(&[0, 0, 0, 0, 1, 0], 3), "document_start falls from 1 to 0 at 2 in sequence 1"),
            (documents(&[0, 2, 2], 3), "a document begins behind its token: Some((1, 2)) in sequence 0"),
            (places(&[1], &[4], 4, 8), "position 4 of slot 1 lies outside of a cache of 8 lines"),
        ];
        for (kept, reason) in cases {
            assert_eq!(kept, Err(reason.to_owned()));
        }
        assert!(places_apart(&[1, 0, 1], &[2, 2, 2]).is_err());
        let kept = [
            documents(&[0, 0, 2, 0, 1, 1], 3),
            offsets("offsets", &[0, 0, 3, 3], 3),
            permutation("slot_pair", &[2, 0, 1]),
            places(&[NO_SLOT, 1], &[9, 3], 4, 8),
            places_apart(&[NO_SLOT, NO_SLOT], &[2, 2]),
        ];
        assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    }
}
