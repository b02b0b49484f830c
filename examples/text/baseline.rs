//! An n-gram baseline: counts of the character that follows the last few.

use std::collections::HashMap;

/// Weight of the estimate from one character fewer, in characters: a context that was seen so often counts as much.
const PRIOR: f64 = 5.0;

/// Bits that a character of `held_out` (but its first) costs a model that has counted in `train` what follows the last `order`
/// characters, mixed with the models of fewer.
pub fn bits(train: &[usize], held_out: &[usize], order: usize, characters: usize) -> f64 {
    let mut counts: HashMap<&[usize], HashMap<usize, f64>> = HashMap::new();
    for length in 0..=order {
        for window in train.windows(length + 1) {
            let (context, next) = window.split_at(length);
            *counts.entry(context).or_default().entry(next[0]).or_default() += 1.0;
        }
    }
    let total: HashMap<&[usize], f64> = counts.iter().map(|(context, next)| (*context, next.values().sum())).collect();
    let sum: f64 = (1..held_out.len())
        .map(|at| {
            let mut chance = 1.0 / characters as f64;
            for length in 0..=order.min(at) {
                let context = &held_out[at - length..at];
                if let Some(next) = counts.get(context) {
                    let seen = next.get(&held_out[at]).copied().unwrap_or(0.0);
                    chance = (seen + PRIOR * chance) / (total[context] + PRIOR);
                }
            }
            -chance.log2()
        })
        .sum();
    sum / (held_out.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_cost_what_they_should() {
        let text: Vec<usize> = (0..3000).map(|at| 1 + at % 2).collect();
        assert!((bits(&text, &text[..101], 0, 4) - 1.0).abs() < 1e-2, "two characters, as frequent");
        assert!(bits(&text, &text[..101], 1, 4) < 1e-2, "each follows the other");
        // One of four numbers 0, three 1
        let text: Vec<usize> = (0..40_000).map(|at| (at % 4).min(1)).collect();
        let expected = -(0.25f64 * 0.25f64.log2() + 0.75 * 0.75f64.log2());
        assert!((bits(&text, &text, 0, 2) - expected).abs() < 1e-3);
    }

    #[test]
    fn what_was_never_seen_has_a_price() {
        let cost = bits(&[1; 100], &[2, 2], 2, 4);
        assert!(cost.is_finite() && cost > 5.0, "{cost}");
    }
}
