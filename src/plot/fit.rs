//! Which values a panel's vertical axis has, so that what matters fills the panel.

use super::PlotOptions;
use super::axis::{Axis, Scale, extent};
use super::series::{Point, smooth};

/// Share of a run that counts as its beginning when a scale is judged, and that may be left out.
const BEGINNING: f64 = 0.25;
const LEFT_OUT: f64 = 0.15;
/// Share of the panel that the rest of the run has to fill.
const FILLED: f64 = 1.0 / 3.0;
/// Steps from which on a run has a beginning.
const LONG: usize = 20;

/// For curves that lead from bad to good, each the points of steps and of validations. It holds the smoothed curves,
/// the validations, the values of `holds`, and the raw values but for the extreme hundredth: these leave the panel
/// rather than flatten the rest.
///
/// Linear, if what follows the first quarter of the runs fills a third of the panel so; else, as with a fast fall and a
/// long flat rest, it holds what follows the first 15 % alone. If `losses`, it may also be logarithmic: where the
/// values span more than two powers of ten, or where the rest fills a third of the panel so.
pub(super) fn learning_axis(curves: &[[&[Point]; 2]], holds: &[f64], losses: bool, options: &PlotOptions) -> Axis {
    let after = |share: f64| -> Vec<f64> {
        let mut values = Vec::new();
        for [train, val] in curves {
            let last = extent(train.iter().chain(*val).map(|p| p.0)).map_or(0.0, |(_, last)| last);
            let late = |points: &[Point]| points.iter().copied().filter(|p| p.0 >= share * last).collect::<Vec<_>>();
            // Smoothed as a whole, as it is drawn.
            values.extend(late(&smoothed(train, options)).iter().map(|p| p.1).chain(inner(&late(train))));
            values.extend(late(val).iter().map(|p| p.1));
        }
        values
    };
    let with = |values: &[f64]| values.iter().chain(holds).copied().collect::<Vec<_>>();
    let (all, late) = (after(0.0), after(BEGINNING));
    let log = || Axis::log(with(&all).into_iter(), 0.04);
    let linear = |values: &[f64]| Axis::linear(with(values).into_iter(), 0.07);
    let Some((low, high)) = extent(with(&all).into_iter()) else { return linear(&all) };
    if losses && low > 0.0 && high / low > 100.0 {
        return log();
    }
    let long = curves.iter().any(|[train, _]| train.len() >= LONG);
    let late = if losses { with(&late) } else { late };
    let Some((from, to)) = extent(late.into_iter()).filter(|_| long && high > low) else { return linear(&all) };
    if (to - from) / (high - low) >= FILLED {
        linear(&all)
    } else if losses && low > 0.0 && (to / from).ln() / (high / low).ln() >= FILLED {
        log()
    } else {
        linear(&after(LEFT_OUT))
    }
}

/// Linear from 0, or logarithmic where a few large norms would flatten the others.
pub(super) fn norm_axis(norms: impl Iterator<Item = f64>) -> Axis {
    let mut norms: Vec<f64> = norms.filter(|v| v.is_finite()).collect();
    let count = norms.len();
    let high = norms.iter().fold(0.0f64, |high, v| high.max(*v));
    let middle = if count > 0 { *norms.select_nth_unstable_by(count / 2, f64::total_cmp).1 } else { 0.0 };
    if middle > 0.0 && high > 20.0 * middle {
        Axis::log(norms.into_iter(), 0.05)
    } else {
        Axis::from_zero(norms.into_iter())
    }
}

/// Values of a curve that its panel has to show: the smoothed ones, and the raw ones but for the extreme hundredth.
pub(super) fn usual(points: &[Point], options: &PlotOptions) -> Vec<f64> {
    smoothed(points, options).iter().map(|p| p.1).chain(inner(points)).collect()
}

/// Ends of the range of the values without the extreme hundredth.
fn inner(points: &[Point]) -> Vec<f64> {
    let mut raw: Vec<f64> = points.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
    let Some(last) = raw.len().checked_sub(1) else { return Vec::new() };
    [last / 200, last - last / 200].map(|place| *raw.select_nth_unstable_by(place, f64::total_cmp).1).to_vec()
}

fn smoothed(points: &[Point], options: &PlotOptions) -> Vec<Point> {
    smooth(points, options.reach(points.len()), Scale::Linear)
}
