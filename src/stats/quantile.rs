//! Quantiles of a sample by linear interpolation between order statistics (Hyndman & Fan 1996, definition 7).

/// The `p` quantile of integers, in their unit; `None` without any. Reorders the slice, in time linear in its length.
pub fn of_integers(values: &mut [u32], p: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = p.clamp(0.0, 1.0) * last as f64;
    let (below, share) = (position.floor() as usize, position.fract());
    let (_, &mut low, above) = values.select_nth_unstable(below);
    let high = if share > 0.0 { above.iter().copied().min().unwrap_or(low) } else { low };
    Some(f64::from(low) + share * (f64::from(high) - f64::from(low)))
}

/// The `p` quantile of numbers in ascending order; `None` without any.
pub fn of_sorted(values: &[f64], p: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let low = *values.get(below)?;
    let high = *values.get(below + 1).unwrap_or(&low);
    Some(low + position.fract() * (high - low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_neighbours() {
        assert_eq!(of_integers(&mut [], 0.5), None);
        assert_eq!(of_integers(&mut [7], 0.95), Some(7.0));
        assert_eq!(of_integers(&mut [4, 1, 3, 2], 0.5), Some(2.5));
        let mut hundred: Vec<u32> = (1..=101).rev().collect();
        assert_eq!(of_integers(&mut hundred, 0.95), Some(96.0));
        assert_eq!(of_sorted(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
    }
}
