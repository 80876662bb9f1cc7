//! From numbers to positions: ranges, linear and logarithmic scales, ticks at round numbers and their labels.

/// Larger values are drawn as this, and its inverse is as good as nothing, so that arithmetic on axes stays finite.
const LARGEST: f64 = 1e100;

/// From here on numbers are counted in thousands, millions and so on, and from there on written in powers of ten.
const THOUSAND_FROM: f64 = 1e5;
const POWERS_FROM: f64 = 1e15;

/// How values map to positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    Linear,
    /// Equal ratios are equally far apart; values must be positive.
    Log,
}

/// A range of values along one side of a panel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Value at the left or lower end.
    pub low: f64,
    /// Value at the right or upper end.
    pub high: f64,
    /// How values between them map to positions.
    pub scale: Scale,
}

/// A labelled position on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where.
    pub value: f64,
    /// What is written there.
    pub label: String,
}

impl Axis {
    /// A linear axis that holds all finite `values` with a margin of `margin` times their extent on both sides. A
    /// single value gets room around it; without any the axis goes from 0 to 1.
    pub fn linear(values: impl Iterator<Item = f64>, margin: f64) -> Axis {
        let (low, high) = extent(values.map(|v| v.clamp(-LARGEST, LARGEST))).unwrap_or((0.0, 1.0));
        // Differences in the last digits are no extent.
        let flat = high - low <= (low.abs().max(high.abs()) * 1e-9).max(1.0 / LARGEST);
        let room = if flat { (low.abs() * 0.1).max(1e-12) } else { (high - low) * margin };
        Axis { low: low - room, high: high + room, scale: Scale::Linear }
    }

    /// A logarithmic axis that holds all positive finite `values`, with the margin in the logarithm.
    pub fn log(values: impl Iterator<Item = f64>, margin: f64) -> Axis {
        let logs = Axis::linear(values.filter(|v| *v > 0.0).map(|v| v.clamp(1.0 / LARGEST, LARGEST).log10()), margin);
        Axis { low: 10f64.powf(logs.low), high: 10f64.powf(logs.high), scale: Scale::Log }
    }

    /// A linear axis from 0 to a little over the largest of the finite `values`, or to 1 if none is positive.
    pub fn from_zero(values: impl Iterator<Item = f64>) -> Axis {
        let largest = extent(values).map_or(0.0, |(_, high)| high.min(LARGEST));
        let high = if largest > 1.0 / LARGEST { largest * 1.08 } else { 1.0 };
        Axis { low: 0.0, high, scale: Scale::Linear }
    }

    /// Position of a value: 0 at the low end, 1 at the high end, beyond these outside. NaN where there is none.
    pub fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value > 0.0 => (value / self.low).log10() / (self.high / self.low).log10(),
            Scale::Log => f64::NAN,
        }
    }

    /// Ticks at round numbers, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<Tick> {
        self.labelled(match self.scale {
            Scale::Linear => self.linear_ticks(round_step((self.high - self.low) / count.max(1) as f64)),
            Scale::Log => self.log_ticks(count),
        })
    }

    /// Ticks at round whole numbers, about `count` of them, of a linear axis.
    pub fn whole_ticks(&self, count: usize) -> Vec<Tick> {
        let step = round_step(((self.high - self.low) / count.max(1) as f64).max(1.0));
        self.labelled(self.linear_ticks(if step.fract() == 0.0 { step } else { 2.0 * step }))
    }

    /// A tick at the high end, to three digits or, of small whole numbers, exact.
    pub fn end_tick(&self) -> Tick {
        let whole = self.high.fract() == 0.0 && self.high < THOUSAND_FROM;
        let label = if whole { label(self.high, 1.0, self.high) } else { short(self.high) };
        Tick { value: self.high, label }
    }

    fn labelled(&self, values: Vec<f64>) -> Vec<Tick> {
        let step = values.windows(2).map(|w| w[1] - w[0]).fold(f64::INFINITY, f64::min);
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let label = |value| match self.scale {
            Scale::Linear => label(value, step, largest),
            Scale::Log => label(value, value, value),
        };
        values.into_iter().map(|value| Tick { value, label: label(value) }).collect()
    }

    fn linear_ticks(&self, step: f64) -> Vec<f64> {
        // Multiples of the step, so that 0 is exactly 0; a little slack keeps ticks at the very ends.
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| multiple(i, step)).collect()
    }

    fn log_ticks(&self, count: usize) -> Vec<f64> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let powers = |stride: usize, factors: &[f64]| -> Vec<f64> {
            let all = (low.floor() as i32..=high.ceil() as i32).filter(|p| p.rem_euclid(stride as i32) == 0);
            let values = all.flat_map(|p| factors.iter().map(move |f| decimal(*f, p)));
            values.filter(|v| (self.low..=self.high).contains(v)).collect()
        };
        for factors in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
            let values = powers(1, factors);
            if values.len() <= count.max(2) && values.len() >= 2 {
                return values;
            }
        }
        let decades = (high - low).max(0.0);
        if decades < 1.0 {
            let step = round_step((self.high - self.low) / count.max(1) as f64);
            return self.linear_ticks(step).into_iter().filter(|v| *v > 0.0).collect();
        }
        powers((decades / count.max(1) as f64).ceil() as usize, &[1.0])
    }
}

/// Smallest and largest finite value.
pub fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((v.min(low), v.max(high))),
    })
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`.
fn round_step(least: f64) -> f64 {
    let least = if least.is_finite() && least > 0.0 { least } else { 1.0 };
    let power = least.log10().floor() as i32;
    let fits = |step: &f64| *step >= least * (1.0 - 1e-9);
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| decimal(factor, power));
    steps.into_iter().find(fits).unwrap_or(decimal(1.0, power + 1))
}

/// `factor` times ten to the `power`, as near as a literal would be.
fn decimal(factor: f64, power: i32) -> f64 {
    if power < 0 { factor / 10f64.powi(-power) } else { factor * 10f64.powi(power) }
}

/// `i` steps, by division where the step is a fraction: 3 * 0.1 is not 0.3, 3 / 10 is.
fn multiple(i: i64, step: f64) -> f64 {
    let inverse = (1.0 / step).round();
    if step < 1.0 && (inverse * step - 1.0).abs() < 1e-12 { i as f64 / inverse } else { i as f64 * step }
}

/// A label exact to the distance `step` of the ticks: in thousands, millions, billions (`B`) or trillions (`T`) if the
/// `largest` value is large, in powers of ten if it is tiny or huge.
fn label(value: f64, step: f64, largest: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let step = if step.is_finite() { step } else { value.abs() };
    let digits = decimals(step);
    if !(1e-3..POWERS_FROM).contains(&largest) || (largest < 1e-2 && digits > 3) {
        return scientific(value, step);
    }
    let units = [(1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e6, 1e6, "M"), (THOUSAND_FROM, 1e3, "k")];
    // Steps that three decimals do not tell apart are written out.
    let unit = units.into_iter().find(|(from, ..)| largest >= *from).filter(|(_, unit, _)| step >= unit / 1e3);
    match unit {
        Some((_, unit, name)) => format!("{:.*}{name}", decimals(step / unit).min(3), value / unit),
        None => thousands(&format!("{value:.digits$}")),
    }
}

/// A number to three digits.
pub fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    label(value, decimal(1.0, value.abs().log10().floor() as i32 - 2), value.abs())
}

/// `value` as a short mantissa and a power of ten, exact to `step`.
fn scientific(value: f64, step: f64) -> String {
    let power = value.abs().log10().floor() as i32;
    let digits = decimals(step / decimal(1.0, power));
    let mut mantissa = format!("{:.digits$}", value / decimal(1.0, power));
    if mantissa.contains('.') {
        mantissa = mantissa.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{mantissa}e{power}")
}

/// Decimals needed to tell multiples of `step` apart: 2.5 needs one, 0.05 two.
fn decimals(step: f64) -> usize {
    (0..12).find(|d| ((step * 10f64.powi(*d)).round() / (step * 10f64.powi(*d)) - 1.0).abs() < 1e-6).unwrap_or(3)
        as usize
}

/// The digits before the point in groups of three.
pub fn thousands(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = number.find('.').map_or((number, ""), |at| number.split_at(at));
    let mut text = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, scale: Scale, count: usize) -> Vec<String> {
        Axis { low, high, scale }.ticks(count).into_iter().map(|t| t.label).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_labelled_to_their_distance() {
        let linear = |low, high, count| labels(low, high, Scale::Linear, count);
        assert_eq!(linear(0.0, 10.0, 5), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(linear(0.9, 1.3, 4), ["0.9", "1.0", "1.1", "1.2", "1.3"]);
        assert_eq!(linear(0.0, 1000.0, 4), ["0", "250", "500", "750", "1,000"]);
        assert_eq!(linear(-1.0, 1.0, 4), ["-1.0", "-0.5", "0", "0.5", "1.0"]);
        assert_eq!(linear(1.00002, 1.00013, 2), ["1.0001"]);
        assert_eq!(linear(1.00002, 1.00013, 3), ["1.00005", "1.00010"]);
        assert_eq!(linear(12_345.2, 12_345.9, 3), ["12,345.25", "12,345.50", "12,345.75"]);
    }

    #[test]
    fn tiny_and_huge_ticks_are_written_with_powers_of_ten() {
        let linear = |low, high, count| labels(low, high, Scale::Linear, count);
        assert_eq!(linear(0.0, 5e-4, 5), ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]);
        assert_eq!(linear(0.0, 2e-3, 4), ["0", "5e-4", "1e-3", "1.5e-3", "2e-3"]);
        assert_eq!(linear(0.0, 1e-3, 4), ["0", "2.5e-4", "5e-4", "7.5e-4", "1e-3"]);
        assert_eq!(linear(0.0, 3e15, 3), ["0", "1e15", "2e15", "3e15"]);
    }

    #[test]
    fn large_ticks_are_counted_in_thousands_and_millions() {
        let linear = |low, high, count| labels(low, high, Scale::Linear, count);
        assert_eq!(linear(0.0, 75_000.0, 3), ["0", "25,000", "50,000", "75,000"]);
        assert_eq!(linear(0.0, 3e5, 3), ["0", "100k", "200k", "300k"]);
        assert_eq!(linear(0.0, 1e6, 4), ["0", "0.25M", "0.50M", "0.75M", "1.00M"]);
        assert_eq!(linear(0.0, 3e7, 3), ["0", "10M", "20M", "30M"]);
        assert_eq!(linear(0.0, 5e9, 2), ["0", "2.5B", "5.0B"]);
        assert_eq!(linear(2e6, 2e6 + 3.0, 3), ["2,000,000", "2,000,001", "2,000,002", "2,000,003"]);
        let end = |high| Axis { low: 0.0, high, scale: Scale::Linear }.end_tick().label;
        assert_eq!([603.0, 71.66, 1_228_800.0, 2.5e6].map(end), ["603", "71.7", "1.23M", "2.50M"]);
    }

    #[test]
    fn whole_ticks_are_whole() {
        let whole = |high, count| -> Vec<f64> {
            Axis { low: 0.0, high, scale: Scale::Linear }.whole_ticks(count).iter().map(|t| t.value).collect()
        };
        assert_eq!(whole(1.0, 9), [0.0, 1.0]);
        assert_eq!(whole(3.0, 9), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(whole(20.0, 8), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(whole(100.0, 4), [0.0, 25.0, 50.0, 75.0, 100.0]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_or_lie_between_them() {
        let log = |low, high, count| labels(low, high, Scale::Log, count);
        assert_eq!(log(0.09, 11.0, 4), ["0.1", "1", "10"]);
        assert_eq!(log(0.9, 11.0, 5), ["1", "2", "5", "10"]);
        assert_eq!(log(0.9, 1100.0, 4), ["1", "10", "100", "1,000"]);
        assert_eq!(log(1e-9, 1e9, 4), ["1e-5", "1", "100k"]);
        assert_eq!(log(2.2, 3.9, 4), ["2.5", "3", "3.5"]);
    }

    #[test]
    fn a_number_is_shortened_to_three_digits() {
        let numbers = [
            (5e-4, "5e-4"),
            (4.2e-4, "4.2e-4"),
            (0.00123456, "1.23e-3"),
            (0.5, "0.500"),
            (12345.0, "12,345"),
            (894_944.0, "895k"),
            (874_261_504.0, "874M"),
        ];
        for (value, text) in numbers {
            assert_eq!(short(value), text);
        }
        assert_eq!(short(0.0), "0");
    }

    #[test]
    fn positions_follow_the_scale() {
        let linear = Axis { low: 1.0, high: 3.0, scale: Scale::Linear };
        assert_eq!([1.0, 2.0, 3.0, 5.0].map(|v| linear.share(v)), [0.0, 0.5, 1.0, 2.0]);
        let log = Axis { low: 0.01, high: 100.0, scale: Scale::Log };
        assert!((log.share(1.0) - 0.5).abs() < 1e-12);
        assert!(log.share(0.0).is_nan() && log.share(-1.0).is_nan());
    }

    #[test]
    fn every_set_of_values_has_an_axis_with_ticks() {
        let sets: [&[f64]; 8] = [
            &[],
            &[f64::NAN, f64::INFINITY],
            &[0.0],
            &[3.0, 3.0],
            &[-1e300, 1e300],
            &[1e-300, 2e-300],
            &[1e9, 1e9 + 1.0],
            &[f64::MIN_POSITIVE, f64::MAX],
        ];
        for values in sets {
            let all = || values.iter().copied();
            for axis in [Axis::linear(all(), 0.05), Axis::log(all(), 0.05), Axis::from_zero(all())] {
                assert!(axis.low < axis.high, "{values:?}: {axis:?}");
                let ticks = axis.ticks(5);
                assert!((1..=40).contains(&ticks.len()), "{values:?}: {axis:?} {ticks:?}");
            }
        }
    }
}
