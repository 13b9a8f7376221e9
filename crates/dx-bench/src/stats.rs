//! What a few measurements say about all that could have been made, and what they do not say.
//!
//! Intervals are at [`LEVEL`] and need no assumption about the shape of the distribution: latencies of agents have long
//! tails. Nothing here draws random numbers, so the same records make the same numbers. Must never: tell a bound that the
//! measurements do not give; a 95th percentile of ten jobs has no upper one.

use dx_protocol::{BenchEstimate, BenchRatio, BenchShare};

/// The level of all intervals.
pub const LEVEL: f64 = 0.95;
/// The normal quantile of [`LEVEL`], two-sided.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its interval: the exact one of Clopper and Pearson (1934), which holds the level at every true rate. Score
/// intervals, which are narrower, hold it on the average of rates only; lanes that nearly always succeed are where they do not.
pub fn share(count: u64, of: u64) -> BenchShare {
    if of == 0 {
        return BenchShare { count, of, rate: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, k) = (of as usize, count as usize);
    let tail = (1.0 - LEVEL) / 2.0;
    // The rate at which so many, or fewer, are only just no accident. The fewer the more the rate grows.
    let rate_of = |k: usize, level: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if binomial_cdf(n, middle)[k] > level { low = middle } else { high = middle }
        }
        low
    };
    let low = if k == 0 { 0.0 } else { rate_of(k - 1, 1.0 - tail) };
    let high = if k == n { 1.0 } else { rate_of(k, tail) };
    BenchShare { count, of, rate: k as f64 / n as f64, low, high }
}

/// The `q` quantile with its interval; `None` without a value.
///
/// The point is the value of linear interpolation (type 7 of Hyndman and Fan 1996). The bounds are two of the values: how
/// many values lie below the true quantile is binomial, whatever the distribution (David and Nagaraja, Order Statistics,
/// 2003, section 7.1). A resampling interval would not keep its level for the 95th percentile of few jobs. A bound for which
/// there are too few values is `None`.
pub fn quantile(values: &[f64], q: f64) -> Option<BenchEstimate> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let at = (n.checked_sub(1)?) as f64 * q;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    let value = below + (above - below) * at.fract();
    let tail = (1.0 - LEVEL) / 2.0;
    // Value number k, counted from 1, is at most the quantile unless fewer than k values are.
    let cumulative = binomial_cdf(n, q);
    let low = (1..=n).rev().find(|k| cumulative[k - 1] <= tail).map(|k| sorted[k - 1]);
    let high = (1..=n).find(|k| cumulative[k - 1] >= 1.0 - tail).map(|k| sorted[k - 1]);
    Some(BenchEstimate { value, low, high, of: n as u64 })
}

/// P(X <= k) for k in 0..n, of a binomial with n trials.
fn binomial_cdf(n: usize, p: f64) -> Vec<f64> {
    let mut ln_term = (n as f64) * (1.0 - p).ln();
    let mut sum = 0.0;
    let mut all = Vec::with_capacity(n + 1);
    for k in 0..=n {
        sum += ln_term.exp();
        all.push(sum);
        ln_term += ((n - k) as f64 / (k + 1) as f64 * p / (1.0 - p)).ln();
    }
    all
}

/// How many times as long the second of each pair took; `None` for fewer than six pairs, which cannot show a difference at
/// this level whatever they are.
///
/// The Hodges-Lehmann estimate on logarithms: the median of all means of two differences, with the interval that belongs
/// to the signed-rank test of Wilcoxon (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 2014, section 3.3).
pub fn ratio(pairs: &[(f64, f64)]) -> Option<BenchRatio> {
    const LEAST: usize = 6;
    // A clock of milliseconds tells no time below one.
    let logs: Vec<f64> = pairs.iter().map(|(a, b)| (b.max(1.0) / a.max(1.0)).ln()).collect();
    let n = logs.len();
    if n < LEAST {
        return None;
    }
    let mut means: Vec<f64> = Vec::with_capacity(n * (n + 1) / 2);
    for (i, a) in logs.iter().enumerate() {
        means.extend(logs[i..].iter().map(|b| f64::midpoint(*a, *b)));
    }
    means.sort_by(f64::total_cmp);
    let m = means.len();
    let middle = f64::midpoint(means[(m - 1) / 2], means[m / 2]);
    let cut = signed_rank_cut(n);
    let (low, high) = (means[cut].exp(), means[m - 1 - cut].exp());
    Some(BenchRatio { value: middle.exp(), low, high, of: n as u64, differs: low > 1.0 || high < 1.0 })
}

/// Index of the lower bound among the sorted means: so many lie outside of the interval on each side. The largest one for
/// which the rank sum is so small, or smaller, no more often than the tail.
fn signed_rank_cut(n: usize) -> usize {
    const EXACT: usize = 200;
    let tail = (1.0 - LEVEL) / 2.0;
    let sums = n * (n + 1) / 2;
    if n > EXACT {
        let (mean, n) = (sums as f64 / 2.0, n as f64);
        let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        return (mean - Z * deviation).floor().max(1.0) as usize - 1;
    }
    // The distribution of the rank sum: each rank is in it or not.
    let mut ways = vec![0.0_f64; sums + 1];
    ways[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..=sums).rev() {
            ways[sum] = f64::midpoint(ways[sum], ways[sum - rank]);
        }
        for way in ways.iter_mut().take(rank) {
            *way /= 2.0;
        }
    }
    let mut below = 0.0;
    for (sum, way) in ways.iter().enumerate() {
        below += way;
        if below > tail {
            return sum.saturating_sub(1);
        }
    }
    0
}

/// Whether two shares differ: the exact test of Fisher (1935), two-sided. Equal lanes are told apart no more often than
/// [`LEVEL`] allows, however few their jobs are.
pub fn shares_differ(a: &BenchShare, b: &BenchShare) -> bool {
    /// Ways that differ by rounding alone are equally likely.
    const SLACK: f64 = 1.0 + 1e-7;
    let (all, good) = (a.of + b.of, a.count + b.count);
    let mut ln_factorial = vec![0.0_f64];
    for n in 1..=all {
        ln_factorial.push(ln_factorial[n as usize - 1] + (n as f64).ln());
    }
    let ln_ways = |n: u64, k: u64| {
        let ln = |n: u64| ln_factorial[n as usize];
        ln(n) - ln(k) - ln(n - k)
    };
    // As many successes as there are, shared out by chance: so likely has the first one `k` of them.
    let likely = |k: u64| (ln_ways(a.of, k) + ln_ways(b.of, good - k) - ln_ways(all, good)).exp();
    let seen = likely(a.count) * SLACK;
    let shared_out = good.saturating_sub(b.of)..=good.min(a.of);
    shared_out.map(likely).filter(|p| *p <= seen).sum::<f64>() <= 1.0 - LEVEL
}

/// Whether so many trials on each side could show a difference at this level at all: none failed there, and all here.
pub fn shares_could_differ(a: u64, b: u64) -> bool {
    shares_differ(&share(a, a), &share(0, b))
}
