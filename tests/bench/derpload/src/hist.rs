//! A log-linear histogram of durations: 64 steps an octave, so within 1.6 %.

use serde_json::{Value, json};

const STEPS: u64 = 64;
const SHIFT: u32 = STEPS.trailing_zeros();

/// Durations in nanoseconds, counted.
#[derive(Clone)]
pub struct Hist {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

fn slot(value: u64) -> usize {
    let octave = (value | STEPS).ilog2() - SHIFT;
    (u64::from(octave) * STEPS + (value >> octave)) as usize
}

/// The largest value that falls into a slot.
fn ceiling(slot: usize) -> u64 {
    let slot = slot as u64;
    if slot < 2 * STEPS {
        return slot;
    }
    let octave = slot / STEPS - 1;
    ((slot - octave * STEPS + 1) << octave) - 1
}

impl Hist {
    /// Return an empty histogram.
    pub fn new() -> Self {
        let counts = vec![0; slot(u64::MAX >> 8) + 1];
        Self { counts, total: 0, max: 0 }
    }

    /// Count one duration.
    pub fn add(&mut self, value: u64) {
        let value = value.min(u64::MAX >> 8);
        self.counts[slot(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Forget everything, for the start of a measured window.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }

    /// Return how many durations were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Return the duration that the given share of all stays below.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return ceiling(slot).min(self.max);
            }
        }
        self.max
    }

    /// Describe the distribution in microseconds; `null` when it is empty.
    pub fn micros(&self) -> Value {
        self.describe(1e3)
    }

    /// Describe the distribution in milliseconds; `null` when it is empty.
    pub fn millis(&self) -> Value {
        self.describe(1e6)
    }

    fn describe(&self, unit: f64) -> Value {
        if self.total == 0 {
            return Value::Null;
        }
        let at = |share| (self.quantile(share) as f64 / unit * 10.0).round() / 10.0;
        json!({"count": self.total, "p50": at(0.5), "p90": at(0.9), "p99": at(0.99),
               "p999": at(0.999), "max": at(1.0)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_at_or_below_its_ceiling_and_within_two_percent() {
        for value in (0..200_000).chain([1 << 30, (1 << 40) + 12_345, u64::MAX >> 8]) {
            let top = ceiling(slot(value));
            assert!(top >= value, "{value} above {top}");
            assert!(
                (top - value) as f64 <= value as f64 * 0.016,
                "{value} far below {top}"
            );
        }
    }

    #[test]
    fn quantiles_follow_the_ranks() {
        let mut hist = Hist::new();
        (1..=1000).for_each(|n| hist.add(n * 1000));
        assert!((hist.quantile(0.5) as f64 / 500_000.0 - 1.0).abs() < 0.02);
        assert!((hist.quantile(0.99) as f64 / 990_000.0 - 1.0).abs() < 0.02);
        assert_eq!(hist.quantile(1.0), 1_000_000);
        hist.clear();
        assert!(hist.micros().is_null());
    }
}
