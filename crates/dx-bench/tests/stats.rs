//! The statistics against truths that are known: intervals hold their level, equal lanes are equal, a slower one is found.

use dx_bench::stats::{quantile, ratio, share, shares_could_differ, shares_differ};

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Latencies with a long tail: a shift and an exponential, in milliseconds.
    fn latency(&mut self) -> f64 {
        400.0 - 600.0 * (1.0 - self.next()).ln()
    }
}

fn truth(q: f64) -> f64 {
    400.0 - 600.0 * (1.0 - q).ln()
}

const RUNS: u32 = 2_000;
/// Of 2,000 runs at 95 %, fewer than this cover in one of a million: 1,900 less five deviations of 9.7.
const LEAST: u32 = 1_851;

#[test]
fn intervals_of_quantiles_hold_their_level() {
    let mut random = Random(1);
    for (q, n) in [(0.5, 10), (0.5, 15), (0.5, 40), (0.95, 15), (0.95, 40), (0.95, 120)] {
        let (mut covered, mut bounded) = (0, 0);
        for _ in 0..RUNS {
            let values: Vec<f64> = (0..n).map(|_| random.latency()).collect();
            let estimate = quantile(&values, q).unwrap();
            let low = estimate.low.is_none_or(|low| low <= truth(q));
            let high = estimate.high.is_none_or(|high| high >= truth(q));
            covered += u32::from(low && high);
            bounded += u32::from(estimate.high.is_some());
        }
        assert!(covered >= LEAST, "{q} of {n}: {covered} of {RUNS}");
        // (1 - 0.95^n) must reach 0.975 for a highest value to be a bound.
        assert_eq!(bounded == RUNS, q < 0.9 || n >= 72, "{q} of {n}");
    }
}

/// How likely `k` successes of `n` are.
fn likely(n: u64, k: u64, rate: f64) -> f64 {
    let ways: f64 = (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product();
    ways * rate.powi(k as i32) * (1.0 - rate).powi((n - k) as i32)
}

#[test]
fn intervals_of_shares_hold_their_level_at_every_rate() {
    for n in [1_u64, 2, 5, 10, 15, 40, 60] {
        let shares: Vec<_> = (0..=n).map(|k| share(k, n)).collect();
        for rate in (1..200).map(|i| f64::from(i) / 200.0).chain([0.999]) {
            let covered: f64 = (0..=n)
                .filter(|k| (shares[*k as usize].low..=shares[*k as usize].high).contains(&rate))
                .map(|k| likely(n, k, rate))
                .sum();
            assert!(covered >= 0.95 - 1e-9, "{n} jobs at {rate}: {covered}");
        }
    }
}

#[test]
fn equal_success_is_told_apart_no_more_often_than_the_level_allows() {
    for (n, m) in [(1_u64, 1_u64), (2, 2), (4, 4), (8, 8), (5, 15), (20, 20)] {
        for rate in [0.05, 0.3, 0.5, 0.8, 0.97] {
            let wrong: f64 = (0..=n)
                .flat_map(|a| (0..=m).map(move |b| (a, b)))
                .filter(|(a, b)| shares_differ(&share(*a, n), &share(*b, m)))
                .map(|(a, b)| likely(n, a, rate) * likely(m, b, rate))
                .sum();
            assert!(wrong <= 0.05 + 1e-9, "{n} and {m} jobs at {rate}: {wrong}");
        }
    }
}

/// The share of 400 runs in which lanes are told to differ when the second one's latencies are `times` as long.
fn found(random: &mut Random, pairs: usize, times: f64) -> f64 {
    let runs = 400;
    let differ = (0..runs)
        .filter(|_| {
            // What a prompt takes is common to both lanes; a tenth of it is noise.
            let pairs: Vec<(f64, f64)> = (0..pairs)
                .map(|_| {
                    let prompt = random.latency();
                    let (a, b) = (0.9 + 0.2 * random.next(), 0.9 + 0.2 * random.next());
                    (prompt * a, prompt * b * times)
                })
                .collect();
            ratio(&pairs).is_some_and(|ratio| ratio.differs)
        })
        .count();
    differ as f64 / f64::from(runs)
}

#[test]
fn equal_lanes_are_equal_and_a_slower_one_is_found() {
    let mut random = Random(3);
    for pairs in [6, 15, 30] {
        // 5 % are expected; eight deviations of 1.1 % more are not.
        let wrong = found(&mut random, pairs, 1.0);
        assert!(wrong <= 0.09, "{pairs}: {wrong}");
    }
    assert!(found(&mut random, 15, 1.2) >= 0.99);
    assert_eq!(ratio(&[(1.0, 2.0); 5]), None, "five pairs show nothing");
}

#[test]
fn the_ratio_is_that_of_the_lanes() {
    let mut random = Random(4);
    let mut covered = 0;
    for _ in 0..RUNS {
        let pairs: Vec<(f64, f64)> = (0..12)
            .map(|_| {
                let prompt = random.latency();
                (prompt * (0.9 + 0.2 * random.next()), prompt * 1.5 * (0.9 + 0.2 * random.next()))
            })
            .collect();
        let ratio = ratio(&pairs).unwrap();
        covered += u32::from(ratio.low <= 1.5 && 1.5 <= ratio.high);
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high);
    }
    assert!(covered >= LEAST, "{covered} of {RUNS}");
}

#[test]
fn known_numbers() {
    // The exact interval of 8 of 10: R, binom.test(8, 10).
    let eight = share(8, 10);
    assert!((eight.low - 0.443_90).abs() < 1e-4 && (eight.high - 0.974_79).abs() < 1e-4, "{eight:?}");
    // All of five: 0.025 to the power of a fifth.
    let all = share(5, 5);
    assert!((all.low - 0.025_f64.powf(0.2)).abs() < 1e-9 && all.high >= 1.0, "{all:?}");
    let none = share(0, 0);
    assert_eq!((none.low, none.high), (0.0, 1.0));
    // Order statistics 2 and 9 bound the median of ten at 97.9 %.
    let ten: Vec<f64> = (1..=10).map(f64::from).collect();
    let median = quantile(&ten, 0.5).unwrap();
    assert_eq!((median.value, median.low, median.high), (5.5, Some(2.0), Some(9.0)));
    assert_eq!(quantile(&[], 0.5), None);
    assert_eq!(quantile(&[7.0], 0.95).unwrap().high, None);
    // The ninth of the 55 means from either end bounds ten pairs: tables of the signed-rank statistic, n = 10, P = 0.024.
    let pairs: Vec<(f64, f64)> = (1..=10).map(|n| (1000.0, 1000.0 * f64::from(n).exp())).collect();
    let bounds = ratio(&pairs).unwrap();
    for (found, known) in [(bounds.low, 3.0), (bounds.value, 5.5), (bounds.high, 8.0)] {
        assert!((found.ln() - known).abs() < 1e-9, "{bounds:?}");
    }
    assert!(shares_differ(&share(2, 20), &share(18, 20)));
    assert!(!shares_differ(&share(9, 10), &share(10, 10)));
    // Fisher's tea: three of four cups against one of four are no evidence (p 0.486), four against none are (p 0.029).
    assert!(!shares_differ(&share(3, 4), &share(1, 4)) && shares_differ(&share(4, 4), &share(0, 4)));
    // Three jobs say nothing of three others, whatever became of them.
    for (a, b, could) in
        [(0, 9, false), (1, 1, false), (3, 3, false), (4, 4, true), (1, 20, true), (1, 18, false)]
    {
        assert_eq!(shares_could_differ(a, b), could, "{a} {b}");
    }
}
