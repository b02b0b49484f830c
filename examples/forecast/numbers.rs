//! Writing numbers of any size so that they can be read side by side.

/// Notation of numbers that belong together: in full, or as powers of ten where that would be long.
#[derive(Clone, Copy, Debug)]
pub enum Numbers {
    /// With this many decimals.
    Decimals(usize),
    /// As powers of ten, with this many digits of a number as large as the scale.
    Powers { digits: usize, scale: f64 },
}

impl Numbers {
    /// Shows at least `digits` digits of a number as large as `scale`.
    pub fn new(scale: f64, digits: usize) -> Numbers {
        if !(1e-6..1e9).contains(&scale) && scale > 0.0 {
            return Numbers::Powers { digits, scale };
        }
        let before = if scale > 0.0 { scale.log10().floor() as i32 + 1 } else { 1 };
        Numbers::Decimals((digits as i32 - before).max(0) as usize)
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Numbers::Decimals(decimals) => format!("{value:.decimals$}"),
            Numbers::Powers { digits, scale } => {
                // f64 has 17 digits.
                let larger = if value == 0.0 {
                    0.0
                } else {
                    (value.abs().log10().floor() - scale.log10().floor()).clamp(0.0, 17.0)
                };
                let decimals = (digits.saturating_sub(1) + larger as usize).min(16);
                format!("{value:.decimals$e}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_numbers_keep_their_digits() {
        let show = |scale: f64, value: f64| Numbers::new(scale, 3).show(value);
        assert_eq!(show(2.7, 12.345), "12.35");
        assert_eq!(show(1.2e6, 1_234_567.89), "1234568");
        assert_eq!(show(4e-4, 0.000_456_78), "0.000457");
        assert_eq!(show(3e38, 3e38), "3.00e38");
        assert_eq!(show(2e-9, -2e-9), "-2.00e-9");
        assert_eq!(show(0.0, 0.0), "0.00");
        assert_eq!(show(1e9, 1.234_567_891e15), "1.23456789e15");
        assert_eq!(show(1e-9, 1.0), "1.00000000000e0");
        assert_eq!(show(1e-9, 0.0), "0.00e0");
    }
}
