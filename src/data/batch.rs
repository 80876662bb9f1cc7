//! One micro-batch as the graph takes it in: token numbers, targets, and the index lists derived from them.

/// The target of a position that has none: it is not counted in the loss.
pub const IGNORED: u32 = u32::MAX;

/// One micro-batch of `batch * length` = N positions, row-major (B, T), with everything the device needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// B: sequences.
    pub batch: usize,
    /// T: positions of a sequence.
    pub length: usize,
    /// Input tokens. (B, T)
    pub ids: Vec<u32>,
    /// The token that each position has to predict, or [`IGNORED`]. (B, T)
    pub targets: Vec<u32>,
    /// Weight of each position's loss: 0 until [`Batch::set_weight`] is called. (B, T)
    pub loss_weights: Vec<f32>,
    /// Place in the sequence, from 0; the rotary embedding turns by it. (B, T)
    pub positions: Vec<u32>,
    /// First position, within the sequence, that a position may attend to. (B, T)
    pub document_start: Vec<u32>,
    /// 1 for a token of the text, 0 for padding. (B, T)
    pub real: Vec<u32>,
    /// The numbers of the N positions, sorted by token id and then by position. (N)
    pub token_order: Vec<u32>,
    /// Runs of equal ids in `token_order`: their count S, then S starts and the end N; padded with N. (N + 2)
    pub segments: Vec<u32>,
}

/// One sequence of a batch, of T positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Input tokens.
    pub ids: Vec<u32>,
    /// What each position has to predict, or [`IGNORED`].
    pub targets: Vec<u32>,
    /// Place in the document.
    pub positions: Vec<u32>,
    /// First position of the document.
    pub document_start: Vec<u32>,
    /// 1 for a token of the text, 0 for padding.
    pub real: Vec<u32>,
}

impl Row {
    /// A row of padding. Each position of padding is a document of its own: it sees itself alone, wherever in a row it
    /// stands, and `document_start` never falls.
    pub fn padding(length: usize) -> Row {
        let zeros = vec![0; length];
        Row {
            ids: zeros.clone(),
            targets: vec![IGNORED; length],
            positions: zeros.clone(),
            document_start: (0..length as u32).collect(),
            real: zeros,
        }
    }
}

impl Batch {
    /// A batch of rows, filled up to `batch` sequences with padding.
    pub fn of_rows(rows: &[Row], batch: usize) -> Batch {
        let length = rows.first().map_or(0, |row| row.ids.len());
        let padding = Row::padding(length);
        let rows: Vec<&Row> = rows.iter().chain(std::iter::repeat(&padding)).take(batch).collect();
        let all = |part: fn(&Row) -> &Vec<u32>| rows.iter().flat_map(|row| part(row)).copied().collect::<Vec<u32>>();
        let mut made = Batch::new(all(|row| &row.ids), all(|row| &row.targets), batch, length);
        made.positions = all(|row| &row.positions);
        made.document_start = all(|row| &row.document_start);
        made.real = all(|row| &row.real);
        made
    }

    /// A batch of `batch` sequences of `length` tokens; all real, each sequence one document.
    ///
    /// # Panics
    /// If the lengths of `ids` and `targets` are not `batch * length`.
    pub fn new(ids: Vec<u32>, targets: Vec<u32>, batch: usize, length: usize) -> Batch {
        let n = batch * length;
        assert!(ids.len() == n && targets.len() == n, "a batch of {batch} x {length} needs {n} ids and targets");
        let (token_order, segments) = sort_by_id(&ids);
        Batch {
            batch,
            length,
            loss_weights: vec![0.0; n],
            positions: (0..batch).flat_map(|_| 0..length as u32).collect(),
            document_start: vec![0; n],
            real: vec![1; n],
            token_order,
            segments,
            ids,
            targets,
        }
    }

    /// A batch for next-token prediction: each window holds T + 1 tokens, all but the last are inputs, all but the
    /// first are targets.
    ///
    /// # Panics
    /// If there is no window, or they differ in length, or hold fewer than two tokens.
    pub fn from_windows(windows: &[Vec<u32>]) -> Batch {
        let size = windows.first().map_or(0, Vec::len);
        assert!(size >= 2 && windows.iter().all(|w| w.len() == size), "windows need one length of at least 2");
        let ids = windows.iter().flat_map(|w| &w[..size - 1]).copied().collect();
        let targets = windows.iter().flat_map(|w| &w[1..]).copied().collect();
        Batch::new(ids, targets, windows.len(), size - 1)
    }

    /// As [`Batch::from_windows`], filled up to `batch` sequences with padding that no loss counts.
    ///
    /// # Panics
    /// As [`Batch::from_windows`], or if there are more windows than `batch`.
    pub fn padded(windows: &[Vec<u32>], batch: usize) -> Batch {
        assert!(windows.len() <= batch, "{} windows do not fit a batch of {batch}", windows.len());
        let mut all = windows.to_vec();
        all.resize(batch, windows[0].clone());
        let mut padded = Batch::from_windows(&all);
        let tokens = windows.len() * padded.length;
        padded.targets[tokens..].fill(IGNORED);
        padded.real[tokens..].fill(0);
        padded
    }

    /// Positions whose loss counts.
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }

    /// Tokens of the texts in it: one more of each than it has positions, since the last is a target alone.
    pub fn text_tokens(&self) -> u64 {
        let begins =
            |&place: &usize| self.real[place] != 0 && self.document_start[place] as usize == place % self.length;
        self.real_tokens() + (0..self.ids.len()).filter(begins).count() as u64
    }

    /// Positions that are no padding.
    pub fn real_tokens(&self) -> u64 {
        self.real.iter().map(|&real| u64::from(real)).sum()
    }

    /// Gives every counted position the weight 1 / `total_targets`, where the total is that of the whole update, so
    /// that the micro-batches of an update add up to the mean over its tokens.
    pub fn set_weight(&mut self, total_targets: usize) {
        let weight = 1.0 / total_targets.max(1) as f32;
        for (w, &target) in self.loss_weights.iter_mut().zip(&self.targets) {
            *w = if target == IGNORED { 0.0 } else { weight };
        }
    }
}

/// `token_order` and `segments` of `ids`.
fn sort_by_id(ids: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let n = ids.len() as u32;
    let mut order: Vec<u32> = (0..n).collect();
    order.sort_by_key(|&i| ids[i as usize]); // a stable sort: equal ids stay in the order of their positions
    let mut segments = vec![0];
    for (place, &i) in order.iter().enumerate() {
        if place == 0 || ids[order[place - 1] as usize] != ids[i as usize] {
            segments.push(place as u32);
        }
    }
    segments[0] = segments.len() as u32 - 1;
    segments.resize(ids.len() + 2, n);
    (order, segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_predicts_the_next_token_of_each_window() {
        let batch = Batch::from_windows(&[vec![5, 6, 7, 8], vec![1, 5, 5, 2]]);
        assert_eq!((batch.batch, batch.length), (2, 3));
        assert_eq!(batch.ids, [5, 6, 7, 1, 5, 5]);
        assert_eq!(batch.targets, [6, 7, 8, 5, 5, 2]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 2]);
        assert_eq!(batch.document_start, [0; 6]);
        assert_eq!(batch.real, [1; 6]);
        assert_eq!((batch.real_tokens(), batch.text_tokens()), (6, 8));
        let padded = Batch::of_rows(&[Row::padding(3)], 2);
        assert_eq!(padded.document_start, [0, 1, 2, 0, 1, 2]);
        assert_eq!((padded.real_tokens(), padded.text_tokens()), (0, 0));
    }

    #[test]
    fn segments_cover_the_sorted_order_and_end_in_n() {
        let batch = Batch::new(vec![5, 6, 7, 1, 5, 5], vec![0; 6], 2, 3);
        assert_eq!(batch.token_order, [3, 0, 4, 5, 1, 2]);
        assert_eq!(batch.segments, [4, 0, 1, 4, 5, 6, 6, 6]);
        let distinct = Batch::new(vec![2, 1], vec![0; 2], 1, 2);
        assert_eq!(distinct.segments, [2, 0, 1, 2]);
    }

    #[test]
    fn weights_of_an_update_sum_to_one_over_its_counted_targets() {
        let mut first = Batch::new(vec![1, 2, 3], vec![2, IGNORED, 4], 1, 3);
        let mut second = Batch::new(vec![1, 2, 3], vec![2, 3, 4], 1, 3);
        let total = first.counted() + second.counted();
        assert_eq!(total, 5);
        first.set_weight(total);
        second.set_weight(total);
        assert_eq!(first.loss_weights[1], 0.0);
        let sum: f32 = first.loss_weights.iter().chain(&second.loss_weights).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}
