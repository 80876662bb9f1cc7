//! In which order the windows of all sources come: a pure function of the place, as in [`super::shuffle`].
//!
//! - Text, a stream: the windows of an epoch in a new order.
//! - A folder of token shards: the shards of an epoch in a new order, and in each its windows in a new order. So a run
//!   reads one shard at a time.
//! - Several sources: evenly mixed, each in its own order.

use super::shuffle::permuted;

/// Windows one after the other, each of which begins with the last token of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the source.
    pub source: usize,
    /// Number of the stretch in it.
    pub stretch: usize,
    /// Where in the stretch the first window begins.
    pub start: u64,
    /// Windows.
    pub windows: u64,
}

/// The windows of one source.
struct Lane {
    spans: Vec<Span>,
    windows: u64,
}

/// The windows of all sources.
pub struct Order {
    lanes: Vec<Lane>,
    length: u64,
}

impl Order {
    /// The order of the windows in `spans`, by source, that begin every `length` tokens.
    pub fn new(spans: Vec<Vec<Span>>, length: usize) -> Order {
        let lanes = spans.into_iter().map(|spans| Lane { windows: spans.iter().map(|s| s.windows).sum(), spans });
        Order { lanes: lanes.filter(|lane| lane.windows > 0).collect(), length: length as u64 }
    }

    /// Windows of an epoch.
    pub fn windows(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.windows).sum()
    }

    /// Source, stretch and first token of the window at `place` of an epoch: shuffled by seed and epoch, or, without
    /// them, source by source.
    ///
    /// # Panics
    /// If `place` is not below [`Order::windows`].
    pub fn window(&self, place: u64, shuffle: Option<(u64, u64)>) -> (usize, usize, u64) {
        let (lane, place) = if shuffle.is_some() { self.mixed(place) } else { self.in_turn(place) };
        let (span, window) = lane.window(place, shuffle);
        (span.source, span.stretch, span.start + window * self.length)
    }

    /// As [`Order::window`] without a seed, but with the sources mixed: any number of first windows shows all of them.
    pub fn fair(&self, place: u64) -> (usize, usize, u64) {
        let (lane, place) = self.mixed(place);
        let (span, window) = lane.window(place, None);
        (span.source, span.stretch, span.start + window * self.length)
    }

    fn in_turn(&self, mut place: u64) -> (&Lane, u64) {
        for lane in &self.lanes {
            if place < lane.windows {
                return (lane, place);
            }
            place -= lane.windows;
        }
        panic!("a window beyond the epoch")
    }

    /// Among the first k places of an epoch of n are ⌊k w / n⌋ windows of a source that has w; so for the first source
    /// beside all others, and again among these.
    fn mixed(&self, mut place: u64) -> (&Lane, u64) {
        let mut left = self.windows();
        for lane in &self.lanes {
            let before = |k: u64| (u128::from(k) * u128::from(lane.windows) / u128::from(left)) as u64;
            let own = before(place);
            if before(place + 1) > own {
                return (lane, own);
            }
            place -= own;
            left -= lane.windows;
        }
        panic!("a window beyond the epoch")
    }
}

impl Lane {
    /// Span and number of the window at `place`.
    fn window(&self, mut place: u64, shuffle: Option<(u64, u64)>) -> (&Span, u64) {
        let count = self.spans.len() as u64;
        for k in 0..count {
            let number = shuffle.map_or(k, |(seed, epoch)| permuted(k, count, seed, epoch));
            let span = &self.spans[number as usize];
            if place < span.windows {
                // Shards of one length have orders of their own; number 0 makes a single stretch the seed's own.
                let own = |(seed, epoch): (u64, u64)| permuted(place, span.windows, seed.wrapping_add(number), epoch);
                return (span, shuffle.map_or(place, own));
            }
            place -= span.windows;
        }
        panic!("a window beyond its source")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn order(sources: &[&[u64]]) -> Order {
        let span = |(source, stretch, windows)| Span { source, stretch, start: 5, windows };
        let spans = |(source, windows): (usize, &&[u64])| {
            windows.iter().enumerate().map(|(stretch, &w)| span((source, stretch, w))).collect()
        };
        Order::new(sources.iter().enumerate().map(spans).collect(), 10)
    }

    #[test]
    fn an_epoch_has_every_window_once_and_the_next_another_order() {
        for sources in [&[&[7u64][..]][..], &[&[3, 1, 9]], &[&[40], &[1, 0, 2], &[17, 17]], &[&[0], &[5]]] {
            let order = order(sources);
            let n: u64 = sources.iter().flat_map(|s| *s).sum();
            assert_eq!(order.windows(), n);
            let epoch = |e| (0..n).map(|i| order.window(i, Some((3, e)))).collect::<Vec<_>>();
            let plain: HashSet<_> = (0..n).map(|i| order.window(i, None)).collect();
            assert_eq!(plain.len() as u64, n);
            assert_eq!(epoch(0).into_iter().collect::<HashSet<_>>(), plain);
            assert_eq!((0..n).map(|i| order.fair(i)).collect::<HashSet<_>>(), plain);
            assert_eq!(epoch(1), epoch(1));
            assert_ne!(epoch(0), epoch(1));
        }
    }

    #[test]
    fn one_stretch_has_the_order_of_the_seed_itself() {
        let order = order(&[&[100]]);
        for (i, epoch) in [(0, 0), (57, 3)] {
            assert_eq!(order.window(i, Some((9, epoch))), (0, 0, 5 + 10 * permuted(i, 100, 9, epoch)));
        }
    }

    #[test]
    fn shards_come_one_after_the_other_and_sources_evenly() {
        let shards = order(&[&[50, 50, 50]]);
        let seen: Vec<usize> = (0..150).map(|i| shards.window(i, Some((1, 0))).1).collect();
        assert_eq!(seen.windows(2).filter(|w| w[0] != w[1]).count(), 2);
        let firsts: HashSet<usize> = (0..20).map(|epoch| shards.window(0, Some((1, epoch))).1).collect();
        assert_eq!(firsts.len(), 3);
        let mixed = order(&[&[100], &[300]]);
        for start in [0, 100, 372] {
            let own = (start..start + 28).filter(|&i| mixed.window(i, Some((1, 0))).0 == 0).count();
            assert_eq!(own, 7);
        }
    }
}
