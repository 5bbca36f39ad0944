//! Metrics as plain data.

/// All series of one metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// The full name, with the suffix `_total` if it is a counter. The series of a histogram have
    /// the suffixes `_bucket`, `_count` and `_sum` besides.
    pub name: &'static str,
    /// What it means, in one sentence without a full stop.
    pub help: &'static str,
    /// Whether it may fall.
    pub kind: Kind,
    /// The series. There may be none.
    pub samples: Vec<Sample>,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// It never falls in the life of a process.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

/// One series, and its value now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The labels, in the order in which the [table](super) names them. Names of circuits come from
    /// outside: they may contain any character.
    pub labels: Vec<(&'static str, String)>,
    /// The value. Counts up to 2^53 are exact. In a histogram, the sum of all observations.
    pub value: f64,
    /// In a histogram, each bucket with its upper bound, and the number of observations that are
    /// larger than the bound of the bucket before and not larger than its own. The last bound is
    /// infinite. Empty in other metrics.
    pub buckets: Vec<(f64, u64)>,
}

impl Family {
    pub(super) fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    pub(super) fn push(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        self.samples.push(Sample { labels, value, buckets: Vec::new() });
    }

    /// Adds a series of a histogram.
    pub(super) fn push_histogram(
        &mut self,
        labels: &[(&'static str, &str)],
        sum: f64,
        buckets: Vec<(f64, u64)>,
    ) {
        self.push(labels, sum);
        if let Some(last) = self.samples.last_mut() {
            last.buckets = buckets;
        }
    }
}
