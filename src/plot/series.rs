//! Points of a curve: smoothing, and thinning to what a picture can show.

use super::axis::Scale;

/// (x, y); a y that is not finite is a gap.
pub type Point = (f64, f64);

/// How many points the smoothed value of a curve of `count` points takes in on either side; even.
pub fn smoothing_reach(count: usize) -> usize {
    // A fiftieth of the curve keeps its shape.
    count / 100 * 2
}

/// The weighted mean of the points less than `reach` places away, nearer ones weighing more (a triangle). Early on the
/// reach is no longer than what lies before, so that the steep beginning of a run is neither delayed nor anticipated.
/// On a logarithmic scale the mean is that of the logarithms. Gaps stay gaps and count for nothing.
pub fn smooth(points: &[Point], reach: usize, scale: Scale) -> Vec<Point> {
    let map = |f: fn(f64) -> f64, points: Vec<Point>| points.into_iter().map(|(x, y)| (x, f(y))).collect();
    match scale {
        Scale::Linear => mean(&mean(points, reach / 2), reach / 2),
        Scale::Log => {
            let logs: Vec<Point> = map(f64::ln, points.to_vec());
            map(f64::exp, mean(&mean(&logs, reach / 2), reach / 2))
        }
    }
}

/// The last value of a curve that is a number.
pub fn end(points: &[Point]) -> Option<f64> {
    points.iter().rev().map(|p| p.1).find(|y| y.is_finite())
}

/// The value that the smoothed curve ends at.
pub fn smoothed_end(points: &[Point], scale: Scale) -> Option<f64> {
    end(&smooth(points, smoothing_reach(points.len()), scale))
}

/// The mean of the points up to `reach` places before and after each.
fn mean(points: &[Point], reach: usize) -> Vec<Point> {
    let mut sums = Vec::with_capacity(points.len() + 1);
    let (mut sum, mut count) = (0.0, 0u32);
    sums.push((sum, count));
    for (_, y) in points {
        if y.is_finite() {
            sum += y;
            count += 1;
        }
        sums.push((sum, count));
    }
    // Within half a pixel's worth of points the beginning cannot be seen.
    let least = points.len() / 3000;
    let mean = |i: usize| {
        let reach = reach.min(i.max(least));
        let (from, to) = (i.saturating_sub(reach), (i + reach + 1).min(points.len()));
        (sums[to].0 - sums[from].0) / f64::from(sums[to].1 - sums[from].1)
    };
    let point = |(i, (x, y)): (usize, &Point)| (*x, if y.is_finite() { mean(i) } else { f64::NAN });
    points.iter().enumerate().map(point).collect()
}

/// Runs of points without gaps, in pixels, with at most four points a pixel column: the first, the lowest, the highest
/// and the last, which look like all of them together.
pub fn pieces(points: &[Point], pixel: impl Fn(Point) -> Point) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    for run in points.split(|(_, y)| !y.is_finite()) {
        let mut piece: Vec<Point> = Vec::new();
        let mut column: Vec<Point> = Vec::new();
        for place in run.iter().map(|p| pixel(*p)).filter(|(x, y)| x.is_finite() && y.is_finite()) {
            if column.last().is_some_and(|last| last.0.floor() != place.0.floor()) {
                piece.append(&mut column);
            }
            // The running minimum and maximum keep a column of a million points at four.
            if column.len() == 4 {
                keep_extremes(&mut column, place);
            } else {
                column.push(place);
            }
        }
        piece.append(&mut column);
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    pieces
}

/// `column` holds first, two extremes in order of appearance, and last: makes `place` the last.
fn keep_extremes(column: &mut [Point], place: Point) {
    let last = column[3];
    let (a, b) = (column[1], column[2]);
    let (low, high) = if a.1 <= b.1 { (1, 2) } else { (2, 1) };
    if last.1 < column[low].1 {
        column[low] = last;
    } else if last.1 > column[high].1 {
        column[high] = last;
    }
    if column[1].0 > column[2].0 {
        column.swap(1, 2);
    }
    column[3] = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_begins_at_the_first_point_and_then_averages_evenly() {
        let points: Vec<Point> = (0..10).map(|i| (f64::from(i), f64::from(i * i))).collect();
        let means = mean(&points, 2);
        assert_eq!(means[0], (0.0, 0.0));
        assert_eq!(means[1], (1.0, (0.0 + 1.0 + 4.0) / 3.0));
        assert_eq!(means[5], (5.0, (9.0 + 16.0 + 25.0 + 36.0 + 49.0) / 5.0));
        assert_eq!(means[9], (9.0, (49.0 + 64.0 + 81.0) / 3.0));
        assert_eq!(mean(&points, 0), points);
    }

    #[test]
    fn smoothing_keeps_straight_lines_and_spreads_a_spike_as_a_triangle() {
        let line: Vec<Point> = (0..100).map(|i| (f64::from(i), 3.0 - 0.02 * f64::from(i))).collect();
        let close = |a: &[Point], b: &[Point]| a.iter().zip(b).all(|(a, b)| (a.1 - b.1).abs() < 1e-9);
        assert!(close(&smooth(&line, 8, Scale::Linear)[..90], &line[..90]));
        let powers: Vec<Point> = line.iter().map(|(x, y)| (*x, 10f64.powf(*y))).collect();
        assert!(close(&smooth(&powers, 8, Scale::Log)[..90], &powers[..90]));
        let mut spike = vec![(0.0, 0.0); 101];
        spike[50].1 = 25.0;
        let spread: Vec<f64> = smooth(&spike, 4, Scale::Linear)[44..57].iter().map(|p| p.1.round()).collect();
        assert_eq!(spread, [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn gaps_do_not_enter_a_mean_and_split_the_curve() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, f64::INFINITY), (4.0, f64::NAN)];
        let smoothed = mean(&points, 2);
        assert_eq!(smoothed[2].1, 2.0);
        assert!([1, 3, 4].iter().all(|i| smoothed[*i].1.is_nan()));
        assert_eq!(pieces(&points, |p| p), [vec![(0.0, 1.0)], vec![(2.0, 3.0)]]);
        assert!(pieces(&[], |p| p).is_empty());
    }

    #[test]
    fn thinning_keeps_the_ends_and_extremes_of_every_pixel_column() {
        let value = |i: u32| f64::from((i * 7919) % 1013);
        let points: Vec<Point> = (0..3000).map(|i| (f64::from(i) / 1000.0, value(i))).collect();
        let [piece] = &pieces(&points, |p| p)[..] else { panic!("one piece") };
        assert_eq!(piece.len(), 12);
        for column in 0..3 {
            let of = |points: &[Point]| -> Vec<Point> {
                points.iter().copied().filter(|p| p.0.floor() == f64::from(column)).collect()
            };
            let (all, kept) = (of(&points), of(piece));
            let extremes = |points: &[Point]| super::super::axis::extent(points.iter().map(|p| p.1));
            assert_eq!((all.first(), all.last(), extremes(&all)), (kept.first(), kept.last(), extremes(&kept)));
        }
        assert!(piece.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
