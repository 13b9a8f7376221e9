//! A scenario with chance in it, made certain for one client.
//!
//! What for: models whose latency and failures are known as distributions, so that what is measured of them can be held
//! against the truth. Called by `progress` for each new client, and by who wants to know what was played. Must
//! never: draw differently for the same seed and number.

use super::{Scenario, Step};

impl Scenario {
    /// Whether there is chance in it.
    pub fn is_random(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::Seed(_) | Step::Latency { .. } | Step::Chance { .. }))
    }

    /// What is played for client `number`, counted from 0.
    #[must_use]
    pub fn draw(&self, number: u64) -> Self {
        let seed =
            self.steps.iter().find_map(|step| if let Step::Seed(seed) = step { Some(*seed) } else { None });
        let mut random = Random(mixed(seed.unwrap_or(0)) ^ mixed(!number));
        let mut steps = Vec::new();
        for step in &self.steps {
            match step {
                Step::Seed(_) => {}
                Step::Latency { least, mean } => {
                    let more = mean.mul_f64(-(1.0 - random.share()).ln());
                    steps.push(Step::Sleep(least.saturating_add(more)).rounded());
                }
                Step::Chance { per_mille, step } => {
                    if random.share() * 1_000.0 < f64::from(*per_mille) {
                        steps.push(step.as_ref().clone());
                        break;
                    }
                }
                step => steps.push(step.clone()),
            }
        }
        Self { steps }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    /// From 0 to less than 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shares_and_means_are_those_of_the_scenario() {
        let scenario: Scenario = "seed:7,sleep:0.4+0.6,chance:0.2:500,text:DONE".parse().unwrap();
        assert!(scenario.is_random() && !scenario.draw(0).is_random());
        assert_eq!(scenario.draw(3), scenario.draw(3));
        let (mut failed, mut slept) = (0, Duration::ZERO);
        for number in 0..10_000 {
            let drawn = scenario.draw(number);
            let [Step::Sleep(pause), end] = drawn.steps() else { panic!("{drawn}") };
            assert!(*pause >= Duration::from_millis(400), "{drawn}");
            slept += *pause;
            match end {
                Step::Status(500) => failed += 1,
                end => assert_eq!(*end, Step::Text("DONE".to_owned())),
            }
        }
        // Five deviations: of the share 0.4 %, of the mean 0.6 s / 100.
        assert!((1_800..=2_200).contains(&failed), "{failed}");
        assert!((9_700..=10_300).contains(&slept.as_secs()), "{slept:?}");
        let other: Scenario = "seed:8,sleep:0.4+0.6".parse().unwrap();
        assert_ne!(other.draw(0).steps()[0], scenario.draw(0).steps()[0]);
        assert_eq!(
            "2*sleep:1,text".parse::<Scenario>().unwrap().draw(5).to_string(),
            "2*sleep:1,text:SCRIPTED-OK"
        );
    }
}
