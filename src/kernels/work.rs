//! How much one dispatch may have to do: watchdogs end programs whose dispatches last for seconds. What has more is cut
//! along something that no sum runs over, so that every number stays as it is.

/// Multiply-adds of one dispatch in f32: at the 1.5 TFLOP/s of a small integrated card 0.2 s, far from where a watchdog
/// ends a program.
pub(super) const MOST_PRODUCTS: u64 = 1 << 37;
/// The same of factors in f16 that matrix units can take, which do several times that; without them it is still less
/// than a second.
const MOST_HALF_PRODUCTS: u64 = 1 << 39;

/// The multiply-adds that one dispatch may have; `half`: of factors in f16 that matrix units can take.
pub(super) fn most(half: bool) -> u64 {
    if half { MOST_HALF_PRODUCTS } else { MOST_PRODUCTS }
}

/// Cuts `items` of so many `products` each into ranges of about equal length, as few as have at most `most` products
/// each but for being rounded up to a multiple of `unit` items. First item and number of each range.
pub(super) fn ranges(items: u32, products: u64, unit: u32, most: u64) -> impl Iterator<Item = (u32, u32)> {
    let fitting = (most / products.max(1)).clamp(1, u64::from(u32::MAX)) as u32;
    let length = items.div_ceil(items.div_ceil(fitting).max(1)).next_multiple_of(unit).max(1);
    (0..items).step_by(length as usize).map(move |first| (first, length.min(items - first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_item_once_within_the_limit() {
        for (items, products, unit, most) in [(1, 1, 1, 1), (450, 240, 1, 36_000), (97, 10, 1, 99), (64, 7, 16, 224)] {
            let mut end = 0;
            for (first, count) in ranges(items, products, unit, most) {
                assert!(first == end && count > 0 && u64::from(count) * products <= most.max(products), "{items}");
                end += count;
            }
            assert_eq!(end, items);
        }
        assert_eq!(ranges(300, 1 << 40, 128, most(true)).collect::<Vec<_>>(), [(0, 128), (128, 128), (256, 44)]);
        assert_eq!(ranges(300, 0, 128, most(false)).collect::<Vec<_>>(), [(0, 300)]);
    }
}
